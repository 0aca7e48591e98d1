//! `wasmill state`: looks into the keyed state of a pipeline that stands still.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use wasmill::engine::Error;
use wasmill::engine::inspect::{self, StageState};
use wasmill_core::row::{self, Name, Row};
use wasmill_core::store::Cold;

use super::{data_dir, output, usage};

/// Shows the keyed state of a pipeline that is not running, as of its last commit
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
    /// The data directory [env: WASMILL_DATA_DIR] [default: the only folder in .wasmill]
    #[arg(long, value_name = "DIR", global = true)]
    data_dir: Option<PathBuf>,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// The stages that keep state, with their numbers of keys and map entries
    Ls,
    /// The state of one key: its value, its timers, its map entries
    Get {
        /// The stage
        stage: String,
        /// The key
        key: String,
    },
    /// The keys of a stage that begin with a prefix, as JSON lines
    Scan {
        /// The stage
        stage: String,
        /// What keys begin with
        #[arg(long, default_value = "")]
        prefix: String,
        /// The most keys of each task
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
}

/// How many entries are read at a time.
const PAGE: usize = 1_000;

/// Runs the command.
///
/// # Errors
/// When there is no such data directory or stage, or the pipeline is running.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let dir = data_dir::data_dir(args.data_dir)?;
    let stages = match inspect::open(&dir) {
        Err(error @ Error::Log(wasmill_log::Error::NoLog { .. })) => {
            return usage::checked(Err(error.into()));
        }
        found => found?,
    };
    let mut out = output::stdout();
    output::ended(show_all(&stages, &args.what, &mut out).and_then(|()| Ok(out.flush()?)))
}

fn show_all(stages: &[StageState], what: &What, out: &mut impl Write) -> anyhow::Result<()> {
    match what {
        What::Ls => list(stages, out),
        What::Get { stage, key } => {
            let mut found = false;
            for state in of(stages, stage)? {
                if let Some(value) = get(state, key.as_bytes())? {
                    found = true;
                    writeln!(out, "{value:#}")?;
                }
            }
            if !found {
                bail!("stage {stage} has no state for key {key:?}");
            }
            Ok(())
        }
        What::Scan { stage, prefix, limit } => {
            for state in of(stages, stage)? {
                let start = [state.rows(), prefix.clone().into_bytes()].concat();
                let end = row::after_prefix(&start).context("no end of the prefix")?;
                each(state, &start, &end, *limit, |name, value| {
                    if let Ok(Name::Row { key, .. }) = row::name(name) {
                        writeln!(out, "{}", show(key, &state.task, value)?)?;
                    }
                    Ok(())
                })?;
            }
            Ok(())
        }
    }
}

fn list(stages: &[StageState], out: &mut impl Write) -> anyhow::Result<()> {
    writeln!(out, "{:<20} {:>5} {:>12} {:>12}", "STAGE", "TASK", "KEYS", "MAP ENTRIES")?;
    for stage in stages {
        let (mut keys, mut entries) = (0u64, 0u64);
        each(stage, &stage.rows(), &stage.end(), usize::MAX, |name, _| {
            match row::name(name) {
                Ok(Name::Row { .. }) => keys += 1,
                _ => entries += 1,
            }
            Ok(())
        })?;
        let StageState { name, task, .. } = stage;
        writeln!(out, "{name:<20} {task:>5} {keys:>12} {entries:>12}")?;
    }
    Ok(())
}

fn of<'a>(
    stages: &'a [StageState],
    name: &str,
) -> anyhow::Result<impl Iterator<Item = &'a StageState>> {
    let known: std::collections::BTreeSet<&str> = stages.iter().map(|s| s.name.as_str()).collect();
    if !known.contains(name) {
        let known: Vec<_> = known.into_iter().collect();
        let text = format!("no stage {name:?} keeps state here; there are {}", known.join(", "));
        return Err(usage::wrong(text));
    }
    let name = name.to_owned();
    Ok(stages.iter().filter(move |s| s.name == name))
}

fn each(
    stage: &StageState,
    start: &[u8],
    end: &[u8],
    limit: usize,
    mut each: impl FnMut(&[u8], &[u8]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut start = start.to_vec();
    let mut left = limit;
    while left > 0 {
        let page = stage.state.scan(&start, end, PAGE.min(left), false)?;
        for (key, value) in &page {
            each(key, value)?;
        }
        left -= page.len();
        match page.last() {
            Some((last, _)) if page.len() == PAGE => start = [last.as_slice(), &[0]].concat(),
            _ => break,
        }
    }
    Ok(())
}

fn get(stage: &StageState, key: &[u8]) -> anyhow::Result<Option<Value>> {
    let name = [stage.rows().as_slice(), key].concat();
    let bytes = stage.state.get(&name)?;
    let mut entries = Vec::new();
    for map in 0..64u16 {
        let start = row::map_prefix(stage.number, map, key);
        let end = row::after_prefix(&start).context("no end of the map")?;
        each(stage, &start, &end, usize::MAX, |name, value| {
            if let Ok(Name::Map { entry, .. }) = row::name(name) {
                entries.push(json!({ "map": map, "entry": text(entry), "value": text(value) }));
            }
            Ok(())
        })?;
    }
    if bytes.is_none() && entries.is_empty() {
        return Ok(None);
    }
    let mut value = match bytes {
        Some(bytes) => show(key, &stage.task, &bytes)?,
        None => json!({ "key": text(key), "task": stage.task }),
    };
    if !entries.is_empty() {
        value["maps"] = entries.into();
    }
    Ok(Some(value))
}

fn show(key: &[u8], task: &str, bytes: &[u8]) -> anyhow::Result<Value> {
    let row = Row::decode(bytes)?;
    let timers: Vec<_> = row
        .timers
        .iter()
        .map(|t| json!({ "domain": format!("{:?}", t.domain), "tag": t.tag, "time_ms": t.time }))
        .collect();
    Ok(json!({
        "key": text(key),
        "task": task,
        "state_version": row.version,
        "state": row.value.as_deref().map(text),
        "timers": timers,
    }))
}

/// Bytes as text where they are text, otherwise in hexadecimal.
fn text(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => text.into(),
        _ => json!({ "hex": bytes.iter().map(|b| format!("{b:02x}")).collect::<String>() }),
    }
}
