//! Generated from `wit/v0.1`.
#![allow(missing_docs, unsafe_code, clippy::all)]

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
        imports: {
            "wasmill:plugin/map-state@0.1.0": trappable,
        },
        with: { "wasmill:plugin/logging@0.1.0": super::stateless::wasmill::plugin::logging },
    });
}
