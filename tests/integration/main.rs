//! Tests of Wasmill as a whole: components in the engine, pipelines as processes.

#![allow(clippy::unwrap_used)]

mod admetrics;
mod admin;
mod batching;
mod crash;
mod evil;
mod input;
mod kafka;
mod retention;
mod support;
mod weblog;
