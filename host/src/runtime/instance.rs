//! Instances: one for each stage of a task. An instance that failed is thrown away.

use std::sync::Arc;
use std::time::Duration;

use wasmill_abi::{
    Column, ConfigError, Context, Description, KeyedBatch, KeyedReply, Ports, Resource,
    StatelessBatch, StatelessReply,
};
use wasmill_core::operator::{self, CallError, FailureKind, MapAccess, Operator};
use wasmtime::component::ResourceTable;
use wasmtime::{Store, Trap};

use super::bindings::{keyed, stateless};
use super::convert;
use super::host::{Host, OutOfMemory};
use super::interrupt::Watch;
use super::load::{Component, Kind, check_ports};
use super::output::Output;
use super::wasi::{self, Clock};
use super::{Error, Runtime};

/// Most characters that are shown of the path and of the message of a configuration error.
const PATH_CHARS: usize = 200;
const MESSAGE_CHARS: usize = 4_000;

/// How an instance is set up and bounded.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where it runs.
    pub context: Context,
    /// Its configuration, a JSON object.
    pub config: String,
    /// The files it is given.
    pub resources: Vec<Resource>,
    /// Most bytes of memory. `memory`, default 256 MiB.
    pub memory_bytes: usize,
    /// Longest time of a call. `batch-time`, default 5 s.
    pub batch_time: Duration,
    /// Most bytes that a reply may hold. `output`, default 64 MiB.
    pub output_bytes: usize,
    /// Where its randomness starts.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            context: Context::default(),
            config: "{}".into(),
            resources: Vec::new(),
            memory_bytes: 256 << 20,
            batch_time: Duration::from_secs(5),
            output_bytes: 64 << 20,
            seed: 0,
        }
    }
}

enum Plugin {
    Stateless(stateless::StatelessPlugin),
    Keyed(keyed::KeyedPlugin),
}

/// An instance of a component.
pub(super) struct Instance {
    store: Store<Host>,
    plugin: Plugin,
    watch: Arc<Watch>,
    clock: Clock,
    output: Output,
    name: String,
    path: std::path::PathBuf,
    batch_time: Duration,
}

impl Instance {
    pub(super) fn new(
        runtime: &Runtime,
        component: &Component,
        settings: &Settings,
    ) -> Result<Self, Error> {
        let side = runtime.side(component.trusted);
        let stage = &settings.context.stage;
        let (clock, output) = (Clock::default(), Output::new(stage));
        let host = Host {
            wasi: wasi::context(&clock, &output, settings.seed),
            table: ResourceTable::new(),
            output: output.clone(),
            memory_bytes: settings.memory_bytes,
            memory_used: 0,
            maps: None,
        };
        let mut store = Store::new(&side.engine, host);
        store.limiter(|host| host);
        // What a reply copies: its bytes, and what describes them.
        store.set_hostcall_fuel(settings.output_bytes.saturating_mul(2).saturating_add(1 << 20));
        let path = || component.path.clone();
        let import = |e: wasmtime::Error| Error::Import { path: path(), message: format!("{e:#}") };
        let export = |e: wasmtime::Error| Error::NotAPlugin {
            path: path(),
            message: format!("its exports are not those of the world: {e:#}"),
        };
        let start = |e: wasmtime::Error| Error::Start {
            path: path(),
            message: format!("the plugin fails when it is started: {e:#}"),
        };
        let pre = side.linker.instantiate_pre(&component.code).map_err(import)?;
        let watch = runtime.ticker.watch();
        let make = || match component.kind {
            Kind::Stateless => {
                let pre = stateless::StatelessPluginPre::new(pre).map_err(export)?;
                let plugin = pre.instantiate(&mut store);
                plugin.map(Plugin::Stateless).map_err(start)
            }
            Kind::Keyed => {
                let pre = keyed::KeyedPluginPre::new(pre).map_err(export)?;
                let plugin = pre.instantiate(&mut store);
                plugin.map(Plugin::Keyed).map_err(start)
            }
        };
        let (plugin, _) = watch.within(settings.batch_time, || watch.making(make));
        let d = &component.description;
        let name = if d.name.is_empty() {
            component.path.display().to_string()
        } else {
            format!("{} {}", d.name, d.version)
        };
        Ok(Self {
            plugin: plugin?,
            store,
            watch,
            clock,
            output,
            name,
            path: component.path.clone(),
            batch_time: settings.batch_time,
        })
    }

    /// Runs a call within its limits.
    fn call<T>(
        &mut self,
        now: i64,
        call: impl FnOnce(&Plugin, &mut Store<Host>) -> wasmtime::Result<T>,
    ) -> Result<T, CallError> {
        self.clock.set(now);
        self.output.begin();
        let call = || call(&self.plugin, &mut self.store);
        let (result, ended) = self.watch.within(self.batch_time, call);
        self.output.end();
        result.map_err(|e| self.explain(&e, ended))
    }

    /// Says what a failed call means; `ended` is whether it ran too long.
    fn explain(&self, e: &wasmtime::Error, ended: bool) -> CallError {
        let said = self.output.tail();
        let name = &self.name;
        let (kind, what) = match e.downcast_ref::<Trap>() {
            _ if e.is::<OutOfMemory>() => (FailureKind::Memory, e.root_cause().to_string()),
            Some(Trap::MemoryOutOfBounds) if ended => (
                FailureKind::Timeout,
                format!("the call ran longer than batch-time = {:?}", self.batch_time),
            ),
            Some(Trap::StackOverflow) => {
                (FailureKind::Stack, "the plugin used up its stack".into())
            }
            Some(trap) => (FailureKind::Trap, trap.to_string()),
            None => {
                let text = e.root_cause().to_string();
                if text.contains("fuel allocated for hostcalls") {
                    let what = "the reply, or what it passes to the host at once, is larger than the \
                                limit output";
                    (FailureKind::Limit, what.into())
                } else if let Some(exit) = e.downcast_ref::<wasmtime_wasi::I32Exit>() {
                    let what = format!("the plugin ended itself with exit code {}", exit.0);
                    (FailureKind::Trap, what)
                } else if text.contains("can't sleep") {
                    (FailureKind::Trap, text)
                } else {
                    (FailureKind::MalformedReply, text)
                }
            }
        };
        let said = if said.is_empty() { String::new() } else { format!("; it wrote: {said}") };
        CallError::new(kind, format!("plugin {name}: {what}{said}"))
    }

    pub(super) fn describe(&mut self) -> Result<Description, Error> {
        let result = self.call(0, |plugin, store| match plugin {
            Plugin::Stateless(p) => p
                .wasmill_plugin_lifecycle()
                .call_describe(store)
                .map(convert::stateless_description),
            Plugin::Keyed(p) => {
                p.wasmill_plugin_lifecycle().call_describe(store).map(convert::keyed_description)
            }
        });
        result.map_err(|e| {
            let message = match e.kind {
                FailureKind::Timeout => {
                    format!("describe failed: it took longer than {:?}", self.batch_time)
                }
                _ => format!("describe failed: {e}"),
            };
            Error::Start { path: self.path.clone(), message }
        })
    }

    fn configure(&mut self, settings: &Settings) -> Result<Ports, Error> {
        let result = self.call(0, |plugin, store| match plugin {
            Plugin::Stateless(p) => {
                convert::configure_stateless(p.wasmill_plugin_lifecycle(), store, settings)
            }
            Plugin::Keyed(p) => {
                convert::configure_keyed(p.wasmill_plugin_lifecycle(), store, settings)
            }
        });
        match result {
            Ok(result) => result.map_err(|e| Error::Config(presentable(&e))),
            Err(e) => Err(Error::Start {
                path: self.path.clone(),
                message: format!("configure failed: {e}"),
            }),
        }
    }
}

/// What a plugin says of its configuration, for a terminal: bounded, and no control characters but
/// ends of lines.
fn presentable(e: &ConfigError) -> ConfigError {
    let text = |text: &str, most: usize| {
        let mut chars = text.chars();
        let plain = |c: char| if c.is_control() && c != '\n' { ' ' } else { c };
        let mut shown: String = chars.by_ref().take(most).map(plain).collect();
        if chars.next().is_some() {
            shown.push('…');
        }
        shown
    };
    let path = text(&e.path, PATH_CHARS).replace('\n', " ");
    ConfigError { path, message: text(&e.message, MESSAGE_CHARS) }
}

/// A component as an operator of the engine.
struct Guest {
    runtime: std::sync::Arc<Runtime>,
    component: Component,
    settings: Settings,
    instance: Instance,
    name: String,
}

impl Guest {
    fn failed(&self, message: String) -> CallError {
        CallError::new(FailureKind::Failed, format!("plugin {}: {message}", self.name))
    }
}

impl operator::Common for Guest {
    fn reset(&mut self) -> Result<(), String> {
        let mut instance = Instance::new(&self.runtime, &self.component, &self.settings)
            .map_err(|e| e.to_string())?;
        instance.configure(&self.settings).map_err(|e| e.to_string())?;
        self.instance = instance;
        Ok(())
    }

    fn digest(&self) -> &str {
        &self.component.digest
    }

    fn plugin(&self) -> &str {
        &self.name
    }

    fn wants_headers(&self) -> bool {
        self.component.description.wants_headers
    }

    fn wants_origins(&self) -> bool {
        self.component.description.wants_origins
    }
}

impl operator::Stateless for Guest {
    fn process(&mut self, batch: &StatelessBatch) -> Result<StatelessReply, CallError> {
        let result = self.instance.call(batch.now, |plugin, store| match plugin {
            Plugin::Stateless(p) => {
                let batch = convert::StatelessParts::new(batch);
                p.wasmill_plugin_stateless().call_process(store, batch.borrow())
            }
            Plugin::Keyed(_) => unreachable!("the kind was checked when it was loaded"),
        })?;
        result.map(convert::stateless_reply).map_err(|f| self.failed(f.message))
    }
}

impl operator::Keyed for Guest {
    fn process(
        &mut self,
        batch: &KeyedBatch,
        maps: Box<dyn MapAccess>,
    ) -> (Result<KeyedReply, CallError>, Box<dyn MapAccess>) {
        self.instance.store.data_mut().maps = Some(maps);
        let result = self.instance.call(batch.now, |plugin, store| match plugin {
            Plugin::Keyed(p) => {
                let batch = convert::KeyedParts::new(batch);
                p.wasmill_plugin_keyed().call_process(store, batch.borrow())
            }
            Plugin::Stateless(_) => unreachable!("the kind was checked when it was loaded"),
        });
        let maps = self.instance.store.data_mut().maps.take();
        let maps = maps.expect("put there above, and nothing else takes it");
        let result = result
            .and_then(|reply| reply.map(convert::keyed_reply).map_err(|f| self.failed(f.message)));
        (result, maps)
    }

    fn migrate(&mut self, old_version: u32, states: &Column) -> Result<Column, CallError> {
        let result = self.instance.call(0, |plugin, store| match plugin {
            Plugin::Keyed(p) => p.wasmill_plugin_migration().call_migrate(
                store,
                old_version,
                convert::column(states),
            ),
            Plugin::Stateless(_) => unreachable!("the kind was checked when it was loaded"),
        });
        let sound = |migrated: Column| match migrated.check("the migrated states") {
            Ok(()) if migrated.len() == states.len() => Ok(migrated),
            Ok(()) => {
                let (found, expected) = (migrated.len(), states.len());
                Err(format!("migrate returned {found} state(s) for {expected}"))
            }
            Err(e) => Err(e.to_string()),
        };
        let migrated = result.and_then(|migrated| {
            let migrated =
                migrated.map(convert::column_back).map_err(|f| self.failed(f.message))?;
            sound(migrated).map_err(|message| {
                let message = format!("plugin {}: {message}", self.name);
                CallError::new(FailureKind::MalformedReply, message)
            })
        });
        migrated.map_err(|e| {
            let what_to_do = "the stored state is as it was: mend migrate, or run the version of the \
                              plugin that wrote the state";
            CallError::new(e.kind, format!("{}; {what_to_do}", e.message))
        })
    }

    fn state_version(&self) -> u32 {
        self.component.description.state_version
    }

    fn reads_state_versions(&self) -> &[u32] {
        &self.component.description.reads_state_versions
    }

    fn maps(&self) -> u16 {
        self.component.description.maps.len() as u16
    }
}

impl Runtime {
    /// Instantiates and configures a component. Returns the operator and its ports in effect.
    ///
    /// # Errors
    /// [`Error::Config`] when the plugin refuses its configuration, others when it can't start.
    pub fn operator(
        self: &std::sync::Arc<Self>,
        component: &Component,
        settings: &Settings,
    ) -> Result<(Operator, Ports), Error> {
        let mut instance = Instance::new(self, component, settings)?;
        let ports = instance.configure(settings)?;
        check_ports(&component.path, "the plugin, as configured,", &ports)?;
        let guest = Guest {
            runtime: self.clone(),
            component: component.clone(),
            settings: settings.clone(),
            name: instance.name.clone(),
            instance,
        };
        let operator = match component.kind {
            Kind::Stateless => Operator::Stateless(Box::new(guest)),
            Kind::Keyed => Operator::Keyed(Box::new(guest)),
        };
        Ok((operator, ports))
    }
}
