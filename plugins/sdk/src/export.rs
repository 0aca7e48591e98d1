//! The macro that turns a type into a component.

use std::sync::OnceLock;

use wasmill_abi::{ConfigError, Context, Description, Failure, Ports, Resource};

use crate::config::{self, Setup};
use crate::keyed::Keyed;
use crate::stateless::Stateless;

/// The one operator of a component, made by `configure`.
pub struct Holder<T>(OnceLock<T>);

impl<T> Default for Holder<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Holder<T> {
    /// Not configured yet.
    pub const fn new() -> Self {
        Self(OnceLock::new())
    }

    /// The operator.
    ///
    /// # Panics
    /// When the host did not configure it, which breaks the ABI.
    pub fn get(&self) -> &T {
        self.0.get().expect("the host configures an instance before its first batch")
    }

    fn set(&self, operator: T) -> Result<&T, ConfigError> {
        self.0
            .set(operator)
            .map_err(|_| config::error("", "the instance is configured already"))?;
        Ok(self.get())
    }
}

/// What the crate that exports a plugin says of itself.
#[derive(Debug, Clone, Copy)]
pub struct Crate {
    /// `CARGO_PKG_NAME`.
    pub name: &'static str,
    /// `CARGO_PKG_VERSION`.
    pub version: &'static str,
    /// `CARGO_PKG_DESCRIPTION`.
    pub summary: &'static str,
}

fn describe(mut d: Description, about: Crate, state_version: u32) -> Description {
    let fill = |field: &mut String, value: &str| {
        if field.is_empty() {
            value.clone_into(field);
        }
    };
    fill(&mut d.name, about.name);
    fill(&mut d.version, about.version);
    fill(&mut d.summary, about.summary);
    d.ports = config::complete(d.ports);
    d.state_version = state_version;
    d
}

/// The description of a stateless plugin, filled in from its crate.
pub fn describe_stateless<T: Stateless>(about: Crate) -> Description {
    describe(T::describe(), about, 0)
}

/// The description of a keyed plugin, filled in from its crate.
pub fn describe_keyed<T: Keyed>(about: Crate) -> Description {
    describe(T::describe(), about, T::STATE_VERSION)
}

/// Configures a stateless plugin.
///
/// # Errors
/// The [`ConfigError`] of the plugin, or of a configuration that does not fit its type.
pub fn configure_stateless<T: Stateless>(
    holder: &Holder<T>,
    context: Context,
    json: &str,
    resources: Vec<Resource>,
) -> Result<Ports, ConfigError> {
    let operator = T::new(config::parse(json)?, &Setup::of(context, resources))?;
    let operator = holder.set(operator)?;
    Ok(config::complete(operator.ports().unwrap_or_else(|| T::describe().ports)))
}

/// Configures a keyed plugin.
///
/// # Errors
/// As [`configure_stateless`].
pub fn configure_keyed<T: Keyed>(
    holder: &Holder<T>,
    context: Context,
    json: &str,
    resources: Vec<Resource>,
) -> Result<Ports, ConfigError> {
    let operator = T::new(config::parse(json)?, &Setup::of(context, resources))?;
    let operator = holder.set(operator)?;
    Ok(config::complete(operator.ports().unwrap_or_else(|| T::describe().ports)))
}

/// A failure with a message.
pub fn failure(message: impl Into<String>) -> Failure {
    Failure { message: message.into() }
}

/// Exports a type as the plugin of this crate: `export!(stateless Type)` or `export!(keyed Type)`.
///
/// On a native target it expands to nothing, so that plugins can be tested and linked as libraries.
#[macro_export]
macro_rules! export {
    ($kind:ident $operator:ty) => {
        #[cfg(target_family = "wasm")]
        #[allow(unsafe_code, missing_docs)]
        const _: () = {
            static OPERATOR: $crate::export::Holder<$operator> = $crate::export::Holder::new();
            const ABOUT: $crate::export::Crate = $crate::export::Crate {
                name: env!("CARGO_PKG_NAME"),
                version: env!("CARGO_PKG_VERSION"),
                summary: env!("CARGO_PKG_DESCRIPTION"),
            };
            struct Component;
    $crate::__export_guest!($kind $operator);
        };
    };
}
