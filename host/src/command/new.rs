//! `wasmill new`: scaffolds a plugin crate that builds, passes its test and runs as it is.
//!
//! Invariant: nothing that exists is changed. The sources it writes are in `new/`; this crate
//! compiles and tests them too.

use std::env;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf, absolute};
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};

use super::{output, usage};

/// The most characters of a name: the limit of stages in pipeline files.
const MAX_NAME_CHARS: usize = 60;

/// Names that Cargo refuses, or that would hide a crate of the language or of the SDK.
const RESERVED: [&str; 60] = [
    "abstract",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "const",
    "continue",
    "core",
    "crate",
    "do",
    "dyn",
    "else",
    "enum",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "override",
    "priv",
    "proc-macro",
    "pub",
    "ref",
    "return",
    "self",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "trait",
    "true",
    "try",
    "type",
    "typeof",
    "union",
    "unsafe",
    "unsized",
    "use",
    "virtual",
    "wasmill",
    "wasmill-sdk",
    "where",
    "while",
    "yield",
    "serde",
];

/// Makes a plugin's crate that builds, passes its test and runs as it is
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The plugin's name: a-z, 0-9 and -.
    name: String,
    /// A plugin with state by key, instead of one without state.
    #[arg(long)]
    keyed: bool,
    /// The folder to make [default: NAME]
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,
    /// The folder of the crate wasmill-sdk [default: that of the source tree around the current
    /// directory, else of the one that this program was built in]
    #[arg(long, value_name = "DIR")]
    sdk: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// When the name won't do, there is no SDK, the folder exists, or it can't be written.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    usage::checked(check_name(&args.name))?;
    let folder = args.path.unwrap_or_else(|| args.name.as_str().into());
    let here = env::current_dir().context("cannot tell the current directory")?;
    let sdk = match args.sdk {
        Some(given) => usage::checked(Sdk::given(&given))?,
        None => {
            let program = env::current_exe().and_then(|path| path.canonicalize());
            let places = [Some(here), program.ok()];
            usage::checked(Sdk::around(places.iter().flatten().map(PathBuf::as_path)))?
        }
    };
    let sample = scaffold(&args.name, args.keyed, &folder, &sdk)?;
    let kind = if args.keyed { "a plugin with state by key" } else { "a plugin without state" };
    let shown = folder.display();
    output::print(&format!(
        "{shown} is {kind}. Next:\n  cd {shown}\n  cargo test\n  wasmill build\n  {sample} | wasmill run \
         --fresh pipeline.toml\n"
    ))
}

/// Where the SDK comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Sdk {
    /// A folder that was named; it is named with its whole path.
    Folder(PathBuf),
    /// The source tree with this root; crates within it name the SDK relative to themselves.
    Tree(PathBuf),
}

impl Sdk {
    fn given(folder: &Path) -> anyhow::Result<Self> {
        ensure!(
            is_sdk(folder),
            "{} is not the crate wasmill-sdk: expected a Cargo.toml of that package. In Wasmill's \
             source tree it is plugins/sdk",
            folder.display()
        );
        let whole = folder.canonicalize();
        whole.map(Self::Folder).with_context(|| format!("cannot resolve {}", folder.display()))
    }

    /// The source tree that the first of these places is in that is in one.
    fn around<'p>(places: impl IntoIterator<Item = &'p Path>) -> anyhow::Result<Self> {
        let tree = |place: &'p Path| place.ancestors().find(|root| is_sdk(&root.join(SDK)));
        let root = places.into_iter().find_map(tree).with_context(|| {
            format!(
                "there is no crate wasmill-sdk here, which a plugin is built on, and it is not \
                 published. Say where it is with --sdk: in Wasmill's source tree it is {SDK}"
            )
        })?;
        Ok(Self::Tree(root.to_owned()))
    }

    /// The value of the dependency in the manifest of a crate in the folder `from`.
    fn dependency(&self, from: &Path) -> anyhow::Result<String> {
        let path = match self {
            Self::Folder(folder) => folder.clone(),
            Self::Tree(root) => match from.strip_prefix(root) {
                Ok(inner) => inner.iter().map(|_| "..").collect::<PathBuf>().join(SDK),
                Err(_) => root.join(SDK),
            },
        };
        let Some(path) = path.to_str() else {
            bail!("{} can't be written into a Cargo.toml: it is not UTF-8", path.display());
        };
        // A JSON string is a TOML string too.
        Ok(format!("{{ path = {} }}", serde_json::Value::from(path)))
    }
}

/// The folder of the SDK in the source tree.
const SDK: &str = "plugins/sdk";

fn is_sdk(folder: &Path) -> bool {
    let manifest = fs::read_to_string(folder.join("Cargo.toml"));
    manifest.is_ok_and(|text| text.lines().any(|line| line.trim() == "name = \"wasmill-sdk\""))
}

fn check_name(name: &str) -> anyhow::Result<()> {
    let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    ensure!(
        (1..=MAX_NAME_CHARS).contains(&name.len())
            && name.chars().all(known)
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && !name.ends_with('-'),
        "{name:?} can't name a plugin: use 1 to {MAX_NAME_CHARS} of the characters a-z 0-9 -, with \
         a letter first and no - at the end"
    );
    ensure!(
        !RESERVED.contains(&name),
        "{name:?} can't name a plugin: the word is reserved. Try {:?}",
        format!("my-{name}")
    );
    Ok(())
}

fn whole(folder: &Path) -> anyhow::Result<PathBuf> {
    absolute(folder).with_context(|| format!("cannot resolve {}", folder.display()))
}

/// Whether a crate can be made in a folder.
fn check_place(folder: &Path, sdk: &Sdk) -> anyhow::Result<()> {
    let whole = whole(folder)?;
    if let Sdk::Tree(root) = sdk {
        ensure!(
            whole.parent() != Some(&root.join("plugins")),
            "{} would become part of Wasmill's own workspace, which a crate with a workspace of its \
             own can't. Choose a folder elsewhere with --path",
            folder.display()
        );
    }
    let is_free =
        fs::read_dir(folder).map_or(!folder.exists(), |mut entries| entries.next().is_none());
    ensure!(
        is_free,
        "{} exists already. Choose another name, or a folder with --path",
        folder.display()
    );
    Ok(())
}

/// Writes the crate and returns a command whose output its pipeline can read.
fn scaffold(name: &str, keyed: bool, folder: &Path, sdk: &Sdk) -> anyhow::Result<&'static str> {
    usage::checked(check_place(folder, sdk))?;
    let (source, pipeline, description, sample) = if keyed {
        (
            include_str!("new/keyed.rs"),
            include_str!("new/keyed.toml.txt"),
            "Counts the records of each key",
            r#"printf '{"user":"alice"}\n{"user":"bob"}\n'"#,
        )
    } else {
        (
            include_str!("new/stateless.rs"),
            include_str!("new/stateless.toml.txt"),
            "Emits each line in upper case",
            "echo hello",
        )
    };
    let dependency = sdk.dependency(&whole(folder)?)?;
    let fill = |template: &str| {
        template
            .replace("{{name}}", name)
            .replace("{{description}}", description)
            .replace("{{sdk}}", &dependency)
            .replace("{{sample}}", sample)
    };
    for inner in ["src", ".cargo"] {
        fs::create_dir_all(folder.join(inner))
            .with_context(|| format!("cannot create {}", folder.display()))?;
    }
    for (file, text) in [
        ("Cargo.toml", fill(include_str!("new/Cargo.toml.txt"))),
        ("README.md", fill(include_str!("new/README.md.txt"))),
        ("pipeline.toml", fill(pipeline)),
        ("rust-toolchain.toml", include_str!("../../../rust-toolchain.toml").to_owned()),
        (".cargo/config.toml", include_str!("../../../.cargo/config.toml").to_owned()),
        (".gitignore", "/target\n/.wasmill\n".to_owned()),
        ("src/lib.rs", source.to_owned()),
    ] {
        let path = folder.join(file);
        File::create_new(&path)
            .and_then(|mut created| created.write_all(text.as_bytes()))
            .with_context(|| format!("cannot create {}", path.display()))?;
    }
    Ok(sample)
}

/// The scaffolded sources, compiled and tested along with this crate.
#[cfg(test)]
#[path = "new"]
mod scaffolded {
    mod keyed;
    mod stateless;
}

#[cfg(test)]
mod tests {
    use wasmill_pipeline::Pipeline;

    use super::*;

    fn read(folder: &Path, file: &str) -> String {
        fs::read_to_string(folder.join(file)).unwrap()
    }

    #[test]
    fn every_file_is_filled_in_and_the_pipeline_is_valid() {
        let dir = tempfile::tempdir().unwrap();
        for (name, keyed) in [("plain-one", false), ("counting-1", true)] {
            let folder = dir.path().join("deep").join(name);
            scaffold(name, keyed, &folder, &Sdk::Folder("/sdk".into())).unwrap();
            assert!(read(&folder, ".cargo/config.toml").contains("+simd128"));
            for file in ["Cargo.toml", "README.md", "pipeline.toml", "src/lib.rs", ".gitignore"] {
                let text = read(&folder, file);
                assert!(!text.contains("{{"), "{file} has a gap: {text}");
            }
            assert!(read(&folder, "Cargo.toml").contains("wasmill-sdk = { path = \"/sdk\" }"));
            assert!(read(&folder, "Cargo.toml").contains(&format!("name = \"{name}\"")));
            let path = folder.join("pipeline.toml");
            let pipeline = Pipeline::parse(&path, &read(&folder, "pipeline.toml"), &[]);
            assert!(pipeline.is_ok(), "{:?}", pipeline.err());
        }
    }

    #[test]
    fn a_plugin_is_short() {
        for (source, most) in
            [(include_str!("new/stateless.rs"), 15), (include_str!("new/keyed.rs"), 25)]
        {
            let (plugin, _) = source.split_once("#[cfg(test)]").unwrap();
            let is_code = |line: &&str| !line.trim().is_empty() && !line.starts_with("//");
            let lines = plugin.lines().filter(is_code).count();
            assert!(lines <= most, "{lines} lines, at most {most} were promised");
        }
    }

    #[test]
    fn nothing_that_exists_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("p");
        fs::create_dir(&folder).unwrap();
        let sdk = Sdk::Folder("/sdk".into());
        scaffold("p", false, &folder, &sdk).unwrap();
        let before = read(&folder, "src/lib.rs");
        let error = scaffold("p", true, &folder, &sdk).unwrap_err().to_string();
        assert!(error.contains("exists already"), "{error}");
        assert_eq!(read(&folder, "src/lib.rs"), before);
        let file = dir.path().join("file");
        fs::write(&file, "mine").unwrap();
        assert!(scaffold("p", false, &file, &sdk).is_err());
        assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    }

    #[test]
    fn names_that_cargo_or_a_pipeline_would_refuse_are_refused() {
        for name in ["", "1a", "-a", "a-", "a_b", "Up", "a b", "../a", "é", "fn", "test", "std"] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        assert!(check_name(&"a".repeat(61)).is_err());
        for name in ["a", "word-count", "v2", &"a".repeat(60)] {
            assert!(check_name(name).is_ok(), "{name:?}");
        }
    }

    #[test]
    fn the_sdk_of_the_source_tree_around_is_found_and_named_by_a_short_way() {
        let tree = tempfile::tempdir().unwrap();
        let root = tree.path();
        let inner = root.join("examples/mine");
        fs::create_dir_all(&inner).unwrap();
        let nowhere = Sdk::around([inner.as_path(), root]).unwrap_err().to_string();
        assert!(nowhere.contains("--sdk") && nowhere.contains(SDK), "{nowhere}");
        assert!(Sdk::given(&inner).unwrap_err().to_string().contains("plugins/sdk"));

        fs::create_dir_all(root.join(SDK)).unwrap();
        fs::write(root.join(SDK).join("Cargo.toml"), "[package]\nname = \"wasmill-sdk\"\n")
            .unwrap();
        let sdk = Sdk::around(["/elsewhere".as_ref(), inner.as_path()]).unwrap();
        assert_eq!(sdk, Sdk::Tree(root.to_owned()));
        assert_eq!(sdk.dependency(&inner).unwrap(), r#"{ path = "../../plugins/sdk" }"#);
        let outside = sdk.dependency(Path::new("/elsewhere/p")).unwrap();
        assert!(outside.contains(root.to_str().unwrap()), "{outside}");
        let own = root.join("plugins/mine");
        let error = scaffold("mine", false, &own, &sdk).unwrap_err().to_string();
        assert!(error.contains("Wasmill's own workspace"), "{error}");
        assert!(!own.exists());
    }
}
