//! What a guest can call, and the limits of its store.

use wasmill_abi::maps::Range;
use wasmill_abi::{Column, MapError};
use wasmill_core::operator::MapAccess;
use wasmtime::component::{HasSelf, Linker, ResourceTable};
use wasmtime::{ResourceLimiter, Result};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::bindings::keyed::wasmill::plugin::map_state as m;
use super::bindings::keyed::wasmill::plugin::types as t;
use super::bindings::stateless::wasmill::plugin::logging;
use super::output::Output;

/// Most entries of a table of functions; ordinary plugins have a few thousand.
const TABLE_ELEMENTS: usize = 1 << 20;

/// The clock that a guest could wait with, in the version that `wasmtime-wasi` defines; guests that
/// import an older one are given the same.
const CLOCK: &str = "wasi:clocks/monotonic-clock@0.2.12";

/// The memory limit was passed.
#[derive(Debug, thiserror::Error)]
#[error("the plugin asked for {wanted} bytes of memory, the limit memory = {limit}")]
pub(super) struct OutOfMemory {
    wanted: usize,
    limit: usize,
}

/// The data of a store.
pub(super) struct Host {
    pub(super) wasi: WasiCtx,
    pub(super) table: ResourceTable,
    pub(super) output: Output,
    pub(super) memory_bytes: usize,
    /// What all memories of the store have grown to.
    pub(super) memory_used: usize,
    /// The map state of the keys of the call that runs.
    pub(super) maps: Option<Box<dyn MapAccess>>,
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl ResourceLimiter for Host {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> Result<bool> {
        let wanted = self.memory_used + (desired - current);
        if wanted > self.memory_bytes {
            return Err(OutOfMemory { wanted, limit: self.memory_bytes }.into());
        }
        self.memory_used = wanted;
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> Result<bool> {
        Ok(desired <= TABLE_ELEMENTS)
    }
}

/// Links what a plugin may import.
pub(super) fn link(linker: &mut Linker<Host>) -> Result<()> {
    wasmtime_wasi::p2::add_to_linker_sync(linker)?;
    // Waiting would hold the worker up, beyond the reach of interruption: a plugin can't.
    for name in ["subscribe-duration", "subscribe-instant"] {
        let refuse = || wasmtime::Error::msg("a plugin can't sleep: use a timer");
        let mut clock = linker.instance(CLOCK)?;
        if clock.func_new(name, move |_, _, _, _| Err(refuse())).is_ok() {
            // Nothing was there to be replaced: guests would get the one that waits.
            return Err(wasmtime::Error::msg(format!("WASI has no {CLOCK} with {name}")));
        }
        linker.allow_shadowing(true);
        linker.instance(CLOCK)?.func_new(name, move |_, _, _, _| Err(refuse()))?;
        linker.allow_shadowing(false);
    }
    logging::add_to_linker::<_, HasSelf<Host>>(linker, |host| host)?;
    m::add_to_linker::<_, HasSelf<Host>>(linker, |host| host)
}

impl logging::Host for Host {
    fn enabled(&mut self, level: logging::Level) -> bool {
        let level = level_of(level);
        level <= tracing::level_filters::LevelFilter::current()
    }

    fn log(&mut self, level: logging::Level, message: String) {
        self.output.log(level_of(level), &message);
    }
}

fn level_of(level: logging::Level) -> tracing::Level {
    match level {
        logging::Level::Trace => tracing::Level::TRACE,
        logging::Level::Debug => tracing::Level::DEBUG,
        logging::Level::Info => tracing::Level::INFO,
        logging::Level::Warn => tracing::Level::WARN,
        logging::Level::Error => tracing::Level::ERROR,
    }
}

fn column_in(c: t::ColumnResult) -> Column {
    Column { ends: c.ends, data: c.data, validity: c.validity }
}

fn column_out(c: Column) -> t::ColumnResult {
    t::ColumnResult { ends: c.ends, data: c.data, validity: c.validity }
}

fn error(e: MapError) -> m::Error {
    match e {
        MapError::NoSuchMap(map) => m::Error::NoSuchMap(map),
        MapError::NoSuchSlot(slot) => m::Error::NoSuchSlot(slot),
        MapError::Malformed(why) => m::Error::Malformed(why),
        MapError::Limit(name, value) => m::Error::Limit((name, value)),
        MapError::Store(why) => m::Error::Store(why),
    }
}

impl Host {
    fn maps(&mut self) -> Result<&mut Box<dyn MapAccess>> {
        self.maps
            .as_mut()
            .ok_or_else(|| wasmtime::Error::msg("map state is there for process only"))
    }
}

impl m::Host for Host {
    fn get(
        &mut self,
        index: u16,
        slots: Vec<u32>,
        keys: t::ColumnResult,
    ) -> Result<std::result::Result<t::ColumnResult, m::Error>> {
        let got = self.maps()?.get(index, &slots, &column_in(keys));
        Ok(got.map(column_out).map_err(error))
    }

    fn put(
        &mut self,
        index: u16,
        slots: Vec<u32>,
        keys: t::ColumnResult,
        values: t::ColumnResult,
    ) -> Result<std::result::Result<(), m::Error>> {
        let put = self.maps()?.put(index, &slots, &column_in(keys), &column_in(values));
        Ok(put.map_err(error))
    }

    fn delete_range(
        &mut self,
        index: u16,
        slot: u32,
        range: m::Range,
    ) -> Result<std::result::Result<(), m::Error>> {
        let range = Range { start: range.start, end: range.end };
        Ok(self.maps()?.delete_range(index, slot, &range).map_err(error))
    }

    fn scan(
        &mut self,
        index: u16,
        slot: u32,
        range: m::Range,
        limit: u32,
        descending: bool,
    ) -> Result<std::result::Result<m::Entries, m::Error>> {
        let range = Range { start: range.start, end: range.end };
        let found = self.maps()?.scan(index, slot, &range, limit, descending);
        Ok(found
            .map(|e| m::Entries {
                keys: column_out(e.keys),
                values: column_out(e.values),
                more: e.more,
            })
            .map_err(error))
    }
}
