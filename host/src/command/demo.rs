//! `wasmill demo`: the main job on generated input, from raw log lines to sessions and rankings.

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use wasmill_generate::{Config, Generator};
use wasmill_log::{Body, Log, Position};

use super::{output, pipeline, run};

/// The pipeline of the example.
const PIPELINE: &str = include_str!("../../../examples/weblog/pipeline.toml");
/// Its reference table.
const SECTIONS: &str = include_str!("../../../examples/weblog/sections.csv");

/// Generates a web server's log and runs the example pipeline `weblog` on it
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Lines of the generated log
    #[arg(long, default_value_t = 200_000)]
    events: u64,
    /// The folder to work in; what an earlier demo left there is removed
    #[arg(long, value_name = "DIR", default_value = ".wasmill/demo")]
    dir: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// When a file can't be written, or the run fails.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let dir = &args.dir;
    let at = |name: &str| dir.join(name);
    std::fs::create_dir_all(dir).with_context(|| format!("{} can't be made", dir.display()))?;
    let data = at("data");
    if data.exists() {
        std::fs::remove_dir_all(&data)
            .with_context(|| format!("{} can't be removed", data.display()))?;
    }
    std::fs::write(at("pipeline.toml"), PIPELINE)?;
    std::fs::write(at("sections.csv"), SECTIONS)?;
    output::note(&format!("generating {} lines of a web server's log ...\n", args.events));
    generate(&at("access.log"), args.events)?;
    let file = at("pipeline.toml");
    output::note(&format!("running {} on it, no broker needed ...\n", file.display()));
    let args = pipeline::Args { pipeline: file, sets: Vec::new(), plugins: Vec::new() };
    let prepared = pipeline::load(&args, None)?;
    let report = run::execute(&prepared, data.clone(), None)?;
    output::note(&report.table());
    let log = Log::open_read_only(data.join("log"))?;
    let mut shown = String::new();
    for (topic, what) in [("sessions", "a closed session"), ("pages", "a ranking of pages")] {
        if let Some(value) = last(&log, topic)? {
            shown += &format!("\n{what}, from topic {topic}:\n{value}\n");
        }
    }
    let program = std::env::args().next().unwrap_or_else(|| "wasmill".to_owned());
    shown += "\nlook around:\n";
    for look in ["ls", "read users", "read dead --limit 1"] {
        shown += &format!("  {program} topic {look} --data-dir {}\n", data.display());
    }
    output::print(&shown)
}

fn generate(path: &std::path::Path, events: u64) -> anyhow::Result<()> {
    // Some hours of a site whose visitors come back, so that sessions and windows close.
    let (users, rate) = (20_000, 10.0);
    let config = Config { events: Some(events), users, rate, ..Config::default() };
    let mut generator = Generator::new(&config)?;
    let file = std::fs::File::create(path).with_context(|| path.display().to_string())?;
    let mut out = BufWriter::new(file);
    let mut line = Vec::new();
    while generator.next_into(&mut line).is_some() {
        out.write_all(&line)?;
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(())
}

/// The last value of a topic, as text.
fn last(log: &wasmill_log::ReadOnlyLog, topic: &str) -> anyhow::Result<Option<String>> {
    let mut value = None;
    for partition in 0..log.partitions(topic)? {
        let mut reader = log.reader(topic, partition, Position::start())?;
        while let Some((frame, _)) = reader.next()? {
            if let Body::Records(records) = &frame.body
                && let Some(Some(bytes)) = records.values.iter().last()
            {
                value = Some(String::from_utf8_lossy(bytes).into_owned());
            }
        }
    }
    Ok(value)
}
