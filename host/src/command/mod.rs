//! The commands of the program, a file each.

pub mod bar;
pub mod build;
pub mod check;
pub mod data_dir;
pub mod demo;
pub mod describe;
pub mod generate;
pub mod new;
pub mod output;
pub mod pipeline;
pub mod replay;
pub mod run;
pub mod savepoint;
pub mod state;
pub mod status;
pub mod topic;
pub mod usage;
