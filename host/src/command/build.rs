//! `wasmill build`: builds a plugin crate and puts its component where pipelines find it.
//!
//! Invariant: what is put there is the component of this build, whole or not at all.

use std::io::{BufRead as _, BufReader, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::{env, fs};

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;

use super::{output, usage};

/// What plugins are compiled for.
const TARGET: &str = "wasm32-wasip2";

/// The profile for plugins, used when the workspace has it.
const PROFILE: &str = "plugin";

/// Builds a plugin's crate and puts its component where pipelines find it
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder of the plugin's crate
    #[arg(default_value = ".")]
    path: PathBuf,
    /// Where to put the component [default: target/plugins/NAME.wasm in the crate's workspace]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// When Rust or its target is missing, the crate is no plugin or does not build, or the component
/// can't be written.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let manifest = args.path.join("Cargo.toml");
    if !manifest.is_file() {
        return Err(usage::wrong(format!(
            "{} has no Cargo.toml: expected the folder of a plugin's crate. wasmill new makes one",
            args.path.display()
        )));
    }
    let workspace = metadata(&args.path)?;
    let package = usage::checked(workspace.package(&manifest))?;
    check_target(&args.path)?;
    let Some(component) = compile(&args.path, &workspace, package)? else {
        return Ok(ExitCode::FAILURE);
    };
    let out = args.out.unwrap_or_else(|| {
        workspace.workspace_root.join("target/plugins").join(format!("{}.wasm", package.name))
    });
    let bytes = put(&component, &out)?;
    let here = env::current_dir().unwrap_or_default();
    let shown = out.strip_prefix(here).unwrap_or(&out).display();
    output::print(&format!("{shown}  {}\n", size(bytes)))
}

/// What `cargo metadata` says of a workspace, as far as it is of interest here.
#[derive(Debug, Deserialize)]
struct Workspace {
    packages: Vec<Package>,
    workspace_root: PathBuf,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    targets: Vec<Target>,
}

#[derive(Debug, Deserialize)]
struct Target {
    crate_types: Vec<String>,
}

impl Target {
    fn is_cdylib(&self) -> bool {
        self.crate_types.iter().any(|kind| kind == "cdylib")
    }
}

impl Workspace {
    /// The package of a manifest.
    fn package(&self, manifest: &Path) -> anyhow::Result<&Package> {
        let wanted = manifest
            .canonicalize()
            .with_context(|| format!("cannot resolve {}", manifest.display()))?;
        let is_wanted = |p: &&Package| p.manifest_path.canonicalize().is_ok_and(|m| m == wanted);
        let Some(package) = self.packages.iter().find(is_wanted) else {
            bail!(
                "{} is a workspace, not a crate: name the folder of one of its crates",
                manifest.display()
            );
        };
        ensure!(
            package.targets.iter().any(Target::is_cdylib),
            "crate {:?} is not a plugin: it makes no cdylib. Add to {}:\n\n[lib]\ncrate-type = \
             [\"cdylib\", \"rlib\"]",
            package.name,
            manifest.display()
        );
        Ok(package)
    }

    /// The arguments that choose the profile.
    fn profile(&self) -> [&'static str; 2] {
        let manifest = fs::read_to_string(self.workspace_root.join("Cargo.toml"));
        let title = format!("[profile.{PROFILE}]");
        let has_it = manifest.is_ok_and(|text| text.lines().any(|line| line.trim() == title));
        ["--profile", if has_it { PROFILE } else { "release" }]
    }
}

/// A command of the Rust toolchain, run in the crate's folder so that its toolchain file counts.
fn tool(name: &str, folder: &Path) -> Command {
    let mut command = Command::new(name);
    command.current_dir(folder);
    command
}

fn missing(name: &str) -> impl FnOnce(std::io::Error) -> anyhow::Error {
    move |error| match error.kind() {
        ErrorKind::NotFound => anyhow::anyhow!(
            "there is no {name} on the PATH: install Rust from https://rustup.rs, then try again"
        ),
        _ => anyhow::Error::new(error).context(format!("cannot run {name}")),
    }
}

fn metadata(folder: &Path) -> anyhow::Result<Workspace> {
    let output = tool("cargo", folder)
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .stderr(Stdio::inherit())
        .output()
        .map_err(missing("cargo"))?;
    ensure!(
        output.status.success(),
        "cargo can't read the crate in {}, as it says above",
        folder.display()
    );
    serde_json::from_slice(&output.stdout).context("cargo metadata wrote what can't be read")
}

fn check_target(folder: &Path) -> anyhow::Result<()> {
    let output = tool("rustc", folder)
        .args(["--print", "target-libdir", "--target", TARGET])
        .output()
        .map_err(missing("rustc"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "rustc can't compile for {TARGET}: {}. It takes Rust 1.82 or later: rustup update",
        said.trim()
    );
    let libraries = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    ensure!(
        libraries.is_dir(),
        "the Rust toolchain of {} lacks the target {TARGET}. Install it, in that folder: rustup \
         target add {TARGET}",
        folder.display()
    );
    Ok(())
}

/// A message of `cargo build`.
#[derive(Debug, Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
enum Message {
    CompilerArtifact(Artifact),
    #[serde(other)]
    Other,
}

#[derive(Debug, Deserialize)]
struct Artifact {
    manifest_path: PathBuf,
    target: Target,
    filenames: Vec<PathBuf>,
}

impl Artifact {
    fn component(self, package: &Package) -> Option<PathBuf> {
        let is_ours = self.manifest_path == package.manifest_path && self.target.is_cdylib();
        let is_wasm = |path: &PathBuf| path.extension().is_some_and(|e| e == "wasm");
        self.filenames.into_iter().find(|path| is_ours && is_wasm(path))
    }
}

/// Builds the package; none when it does not compile, which cargo has shown then.
fn compile(
    folder: &Path,
    workspace: &Workspace,
    package: &Package,
) -> anyhow::Result<Option<PathBuf>> {
    let mut child = tool("cargo", folder)
        .args(["build", "--lib", "--target", TARGET, "--package", &package.name])
        .args(workspace.profile())
        .arg("--message-format=json-render-diagnostics")
        .stdout(Stdio::piped())
        .spawn()
        .map_err(missing("cargo"))?;
    let stdout = child.stdout.take().expect("stdout is piped");
    let mut component = None;
    for line in BufReader::new(stdout).lines() {
        let line = line.context("cannot read what cargo writes")?;
        // Other lines are what build scripts and macros print.
        if let Ok(Message::CompilerArtifact(artifact)) = serde_json::from_str(&line) {
            component = artifact.component(package).or(component);
        }
    }
    if !child.wait().context("cannot wait for cargo")?.success() {
        return Ok(None);
    }
    component
        .map(Some)
        .context("cargo built the crate but made no .wasm file: expected one of its cdylib")
}

/// Copies a component to its place and returns its size in bytes.
fn put(component: &Path, out: &Path) -> anyhow::Result<u64> {
    let folder = match out.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let copy = || -> anyhow::Result<u64> {
        // A pipeline that watches the folder must never see half of it.
        let mut whole = tempfile::NamedTempFile::new_in(folder)?;
        let bytes = std::io::copy(&mut fs::File::open(component)?, &mut whole)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            whole.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
        }
        whole.persist(out)?;
        Ok(bytes)
    };
    copy().with_context(|| format!("cannot copy {} to {}", component.display(), out.display()))
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(root: &Path, crate_types: &[&str]) -> Workspace {
        fs::create_dir_all(root.join("p")).unwrap();
        fs::write(root.join("Cargo.toml"), "[workspace]\nmembers = [\"p\"]\n").unwrap();
        fs::write(root.join("p/Cargo.toml"), "").unwrap();
        let json = serde_json::json!({
            "packages": [{
                "name": "p",
                "manifest_path": root.join("p/Cargo.toml"),
                "targets": [{ "crate_types": crate_types }],
            }],
            "workspace_root": root,
            "target_directory": "ignored",
        });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_folder_that_is_no_plugin_is_refused_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let error = run(Args { path: dir.path().into(), out: None }).unwrap_err().to_string();
        assert!(error.contains("has no Cargo.toml"), "{error}");
        let library = workspace(dir.path(), &["rlib"]);
        let error =
            |manifest: &str| library.package(&dir.path().join(manifest)).unwrap_err().to_string();
        assert!(error("Cargo.toml").contains("is a workspace, not a crate"));
        assert!(error("p/Cargo.toml").contains("crate-type = [\"cdylib\", \"rlib\"]"));
    }

    #[test]
    fn the_profile_for_plugins_is_used_where_there_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let workspace = workspace(dir.path(), &["cdylib"]);
        assert_eq!(workspace.profile(), ["--profile", "release"]);
        fs::write(dir.path().join("Cargo.toml"), "[workspace]\n\n[profile.plugin]\nlto = true\n")
            .unwrap();
        assert_eq!(workspace.profile(), ["--profile", "plugin"]);
    }

    #[test]
    fn the_component_is_the_wasm_file_of_the_package_itself() {
        let dir = tempfile::tempdir().unwrap();
        let workspace = workspace(dir.path(), &["cdylib", "rlib"]);
        let package = workspace.package(&dir.path().join("p/Cargo.toml")).unwrap();
        let component = |manifest: &Path, kind: &str| {
            let line = serde_json::json!({
                "reason": "compiler-artifact",
                "manifest_path": manifest,
                "target": { "crate_types": [kind], "name": "p" },
                "filenames": ["/t/libp.rlib", "/t/p.wasm"],
            });
            match serde_json::from_value(line).unwrap() {
                Message::CompilerArtifact(artifact) => artifact.component(package),
                Message::Other => None,
            }
        };
        let own = dir.path().join("p/Cargo.toml");
        assert_eq!(component(&own, "cdylib"), Some("/t/p.wasm".into()));
        assert_eq!(component(&own, "bin"), None);
        assert_eq!(component(Path::new("/other/Cargo.toml"), "cdylib"), None);
        let other = serde_json::from_str(r#"{"reason": "build-finished", "success": true}"#);
        assert!(matches!(other.unwrap(), Message::Other));
    }

    #[test]
    fn a_component_replaces_the_one_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let (from, out) = (dir.path().join("from"), dir.path().join("a/b/p.wasm"));
        for text in ["longer than", "this"] {
            fs::write(&from, text).unwrap();
            assert_eq!(put(&from, &out).unwrap(), text.len() as u64);
            assert_eq!(fs::read_to_string(&out).unwrap(), text);
        }
        let left = fs::read_dir(out.parent().unwrap()).unwrap().count();
        assert_eq!(left, 1, "no temporary file is left");
    }

    #[test]
    fn sizes_are_short() {
        assert_eq!(
            [999, 1_000, 123_456, 2_500_000].map(size).join(", "),
            "999 B, 1.0 kB, 123.5 kB, 2.5 MB"
        );
    }
}
