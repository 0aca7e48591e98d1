//! Loading a component: its code, its kind, its description.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};
use wasmill_abi::{Description, Ports};
use wasmtime::component::Component as Code;
use wasmtime::component::types::ComponentItem;

use super::instance::{Instance, Settings};
use super::interrupt::instrument;
use super::{Error, Runtime};

/// The interface package that this host speaks.
const PACKAGE: &str = "wasmill:plugin";
/// Its version.
const VERSION: &str = "0.1.0";
/// Longest time that a plugin may take to describe itself.
const DESCRIBE_TIME: Duration = Duration::from_secs(2);
/// Most characters of a plugin's name, and of its version.
const NAME_CHARS: usize = 100;

/// The kind of a plugin: which of the two worlds it exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The world `stateless-plugin`.
    Stateless,
    /// The world `keyed-plugin`.
    Keyed,
}

/// A component that was loaded and described.
#[derive(Clone)]
pub struct Component {
    /// The file it came from.
    pub path: PathBuf,
    /// `sha256:` and the digest of its bytes.
    pub digest: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its kind.
    pub kind: Kind,
    /// What it says of itself.
    pub description: Description,
    /// The interfaces it imports, `package/interface@version`.
    pub imports: Vec<String>,
    pub(super) code: Code,
    pub(super) trusted: bool,
}

impl Runtime {
    /// Loads a component and asks it for its description. `trusted` components run without
    /// interruption.
    ///
    /// # Errors
    /// [`Error`] when it is not a plugin that this host can run.
    pub fn load(&self, path: &Path, trusted: bool) -> Result<Component, Error> {
        let bytes =
            std::fs::read(path).map_err(|error| Error::Read { path: path.to_owned(), error })?;
        self.load_bytes(path, &bytes, trusted)
    }

    /// As [`Runtime::load`], from bytes; `path` is for messages.
    ///
    /// # Errors
    /// As [`Runtime::load`].
    pub fn load_bytes(&self, path: &Path, bytes: &[u8], trusted: bool) -> Result<Component, Error> {
        let side = self.side(trusted);
        let not = |message: String| Error::NotAComponent { path: path.to_owned(), message };
        if bytes.get(..4) != Some(b"\0asm") {
            let what = if bytes.is_empty() { "the file is empty" } else { "no WebAssembly in it" };
            return Err(not(what.into()));
        }
        if bytes.get(6..8) == Some(&[0, 0]) {
            return Err(not("it is a core module".into()));
        }
        let instrumented = match trusted {
            true => std::borrow::Cow::Borrowed(bytes),
            false => instrument(bytes).map_err(not)?.into(),
        };
        let code = Code::from_binary(&side.engine, &instrumented);
        let code = code.map_err(|e| not(format!("{e:#}")))?;
        let ty = code.component_type();
        let imports = ty.imports(&side.engine).map(|(name, _)| name.to_owned()).collect();
        let kind = kind(path, ty.exports(&side.engine).map(|(name, item)| (name, item.ty)))?;
        let mut component = Component {
            path: path.to_owned(),
            digest: format!("sha256:{:x}", Sha256::digest(bytes)),
            bytes: bytes.len() as u64,
            kind,
            description: Description::default(),
            imports,
            code,
            trusted,
        };
        let settings = Settings { batch_time: DESCRIBE_TIME, ..Settings::default() };
        let mut instance = Instance::new(self, &component, &settings)?;
        component.description = instance.describe()?;
        check_description(&component)?;
        Ok(component)
    }
}

fn kind<'a>(
    path: &Path,
    exports: impl Iterator<Item = (&'a str, ComponentItem)>,
) -> Result<Kind, Error> {
    let not = |message: String| Error::NotAPlugin { path: path.to_owned(), message };
    let mut ours = Vec::new();
    for (name, _) in exports {
        if let Some(rest) = name.strip_prefix(PACKAGE).and_then(|r| r.strip_prefix('/')) {
            ours.push(rest.to_owned());
        }
    }
    if ours.is_empty() {
        return Err(not(format!("it exports nothing of {PACKAGE}; write it with the Wasmill SDK")));
    }
    let wrong = ours.iter().find(|name| !name.ends_with(&format!("@{VERSION}")));
    if let Some(name) = wrong {
        return Err(not(format!(
            "it exports {PACKAGE}/{name}, this host speaks version {VERSION}; build the plugin with \
             a matching SDK"
        )));
    }
    let has = |interface: &str| ours.iter().any(|n| n.split('@').next() == Some(interface));
    if !has("lifecycle") {
        return Err(not(format!("it does not export {PACKAGE}/lifecycle@{VERSION}")));
    }
    match (has("stateless"), has("keyed")) {
        (true, false) => Ok(Kind::Stateless),
        (false, true) => Ok(Kind::Keyed),
        (true, true) => Err(not("it exports both worlds, stateless and keyed; choose one".into())),
        (false, false) => Err(not(format!(
            "it exports neither {PACKAGE}/stateless@{VERSION} nor {PACKAGE}/keyed@{VERSION}"
        ))),
    }
}

fn check_description(component: &Component) -> Result<(), Error> {
    let d = &component.description;
    let bad = |message: String| Err(Error::NotAPlugin { path: component.path.clone(), message });
    for (what, text) in [("name", &d.name), ("version", &d.version)] {
        // They stand in messages, headers and logs.
        let plain = text.chars().all(|c| !c.is_control() && !c.is_whitespace());
        if !plain || !(1..=NAME_CHARS).contains(&text.chars().count()) {
            let found: String = text.chars().take(NAME_CHARS).collect();
            return bad(format!(
                "its description has the {what} {found:?}, expected 1 to {NAME_CHARS} characters \
                 without spaces"
            ));
        }
    }
    check_ports(&component.path, "its description", &d.ports)?;
    if d.maps.len() > 64 {
        return bad(format!("its description has {} maps, at most 64 are allowed", d.maps.len()));
    }
    if component.kind == Kind::Keyed && d.state_version == 0 {
        return bad("its description says state version 0, a keyed plugin counts from 1".into());
    }
    Ok(())
}

/// Checks ports that a plugin names, in its description or when it is configured.
pub(super) fn check_ports(path: &Path, what: &str, ports: &Ports) -> Result<(), Error> {
    let bad = |message: String| Err(Error::NotAPlugin { path: path.to_owned(), message });
    let inputs = ports.inputs.iter().map(|p| &p.name);
    let outputs = ports.outputs.iter().map(|p| &p.name);
    for (side, names) in [("input", inputs.collect::<Vec<_>>()), ("output", outputs.collect())] {
        if names.is_empty() || names.len() > 64 {
            return bad(format!("{what} has {} {side}s, 1 to 64 are allowed", names.len()));
        }
        for (i, name) in names.iter().enumerate() {
            if names[..i].contains(name) {
                return bad(format!("{what} has two {side}s {name:?}"));
            }
        }
    }
    Ok(())
}
