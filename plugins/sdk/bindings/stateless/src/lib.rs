//! The bindings of the world `stateless-plugin`, and moves between their types and those of
//! `wasmill-abi`. Each world has a crate of its own, so that a component carries only the one it
//! exports. Generated code; on a native target the crate is empty.
#![cfg(target_family = "wasm")]
#![allow(clippy::all)]

wit_bindgen::generate!({
    path: "../../../../wit/v0.1",
    world: "stateless-plugin",
    pub_export_macro: true,
    default_bindings_module: "wasmill_sdk::guest::stateless",
    generate_all,
});

/// Conversions.
pub mod convert;
