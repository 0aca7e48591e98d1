//! Components: loading them, checking what they are, running them within their limits.
//!
//! Invariant: a guest reaches nothing but the log and the map state of the keys of its call, and a
//! call ends, in time and in memory, whatever the guest does.

mod bindings;
mod convert;
mod host;
mod instance;
mod interrupt;
mod load;
mod output;
mod wasi;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use wasmtime::component::Linker;
use wasmtime::{Cache, CacheConfig, Config, Engine, ProfilingStrategy};

use host::Host;
pub use instance::Settings;
use interrupt::{Creator, Ticker};
pub use load::{Component, Kind};

/// Why a component can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The engine can't be set up.
    #[error("the WebAssembly engine can't be set up: {0}")]
    Engine(String),
    /// The file can't be read.
    #[error("{path}: the plugin can't be read: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// It is no component.
    #[error(
        "{path}: not a WebAssembly component: {message}; build the plugin with `wasmill build` or \
         `cargo build --target wasm32-wasip2`"
    )]
    NotAComponent {
        /// The file.
        path: PathBuf,
        /// What was found.
        message: String,
    },
    /// It does not export what a plugin must.
    #[error("{path}: not a plugin of this host: {message}")]
    NotAPlugin {
        /// The file.
        path: PathBuf,
        /// What was found and what was expected.
        message: String,
    },
    /// It imports what the host does not give.
    #[error("{path}: the plugin imports what no plugin is given: {message}")]
    Import {
        /// The file.
        path: PathBuf,
        /// Which import.
        message: String,
    },
    /// It failed while it was described or configured.
    #[error("{path}: {message}")]
    Start {
        /// The file.
        path: PathBuf,
        /// What happened.
        message: String,
    },
    /// It refuses its configuration.
    #[error("{0}")]
    Config(wasmill_abi::ConfigError),
}

/// The engines that components run in, with and without interruption.
pub struct Runtime {
    checked: Side,
    trusted: Side,
    ticker: Ticker,
}

/// One engine and what it links.
pub(crate) struct Side {
    engine: Engine,
    linker: Linker<Host>,
}

impl Runtime {
    /// Sets the engines up. Compiled code is kept in `cache`, if there is one.
    ///
    /// # Errors
    /// [`Error::Engine`] when the cache folder can't be used or the machine is not supported.
    pub fn new(cache: Option<&Path>) -> Result<Self, Error> {
        let ticker = Ticker::start()
            .map_err(|e| Error::Engine(format!("no thread that watches over calls: {e}")))?;
        Ok(Self { checked: Side::new(cache, false)?, trusted: Side::new(cache, true)?, ticker })
    }

    fn side(&self, trusted: bool) -> &Side {
        if trusted { &self.trusted } else { &self.checked }
    }
}

impl Side {
    fn new(cache: Option<&Path>, trusted: bool) -> Result<Self, Error> {
        let failed = |e: wasmtime::Error| Error::Engine(format!("{e:#}"));
        let mut config = Config::new();
        config.wasm_component_model(true);
        if !trusted {
            // Which can't be mapped from the code.
            config.with_host_memory(Arc::new(Creator)).memory_init_cow(false);
        }
        // For `perf`, which then names the functions of plugins.
        if std::env::var_os("WASMILL_PERF_MAP").is_some() {
            config.profiler(ProfilingStrategy::PerfMap);
        }
        if let Some(folder) = cache {
            let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
            let mut settings = CacheConfig::new();
            settings.with_directory(folder);
            config.cache(Some(Cache::new(settings).map_err(failed)?));
        }
        let engine = Engine::new(&config).map_err(failed)?;
        let mut linker = Linker::new(&engine);
        host::link(&mut linker).map_err(failed)?;
        Ok(Self { engine, linker })
    }
}
