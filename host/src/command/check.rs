//! `wasmill check`: everything that can be known of a pipeline without running it.

use std::process::ExitCode;

use super::{output, pipeline};

/// Checks a pipeline file and its plugins, and shows how it will be cut into tasks
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pipeline: pipeline::Args,
}

/// Runs the command.
///
/// # Errors
/// Every problem of the pipeline.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let prepared = pipeline::load(&args.pipeline, None)?;
    pipeline::warn(&prepared);
    let file = args.pipeline.pipeline.display();
    output::print(&format!("{}{file}: no problems found\n", prepared.plan.describe()))
}
