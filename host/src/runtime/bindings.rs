//! Generated from `wit/v0.1`.
#![allow(missing_docs, clippy::all)]

pub(super) mod stateless {
    wasmtime::component::bindgen!({
        path: "../wit/v0.1",
        world: "stateless-plugin",
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

pub(super) mod keyed {
    wasmtime::component::bindgen!({
        path: "../wit/v0.1",
        world: "keyed-plugin",
        ownership: Borrowing { duplicate_if_necessary: true },
        with: { "wasmill:plugin/logging@0.1.0": super::stateless::wasmill::plugin::logging },
    });
}
