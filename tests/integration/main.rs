//! Tests of Wasmill as a whole: components in the engine, pipelines as processes.

#![allow(clippy::unwrap_used)]

mod admetrics;
mod admin;
mod batching;
mod changelog;
mod crash;
mod evil;
mod input;
mod kafka;
mod ledger;
mod rebalance;
mod records;
mod replay;
mod retention;
mod savepoint;
mod security;
mod starts;
mod status;
mod support;
mod topics;
mod weblog;
mod world;
mod zombies;
