//! Tests of Wasmill as a whole: components in the engine, pipelines as processes.

#![allow(clippy::unwrap_used)]

mod admetrics;
mod admin;
mod batching;
mod changelog;
mod command;
mod crash;
mod ends;
mod evil;
mod first_positions;
mod input;
mod kafka;
mod ledger;
mod progress;
mod rebalance;
mod records;
mod replay;
mod retention;
mod savepoint;
mod security;
mod shapes;
mod starts;
mod status;
mod support;
mod topics;
mod weblog;
mod wit;
mod world;
mod zombies;
