//! `wasmill describe`: what a component says of itself.

use std::path::PathBuf;
use std::process::ExitCode;

use wasmill::engine::prepare;
use wasmill::runtime::{Component, Kind};
use wasmill_abi::Treatment;

use super::{output, pipeline, usage};

/// Shows what a plugin is: its ports, its configuration, what it imports
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The component: a .wasm file, or the name of a plugin in the standard folders
    component: PathBuf,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// When there is no such file, or it is no plugin of this host.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut path = args.component.clone();
    if !path.exists() {
        let file = format!("{}.wasm", path.display());
        let folders = prepare::standard_folders();
        let Some(found) = folders.iter().map(|f| f.join(&file)).find(|p| p.is_file()) else {
            let folders: Vec<_> = folders.iter().map(|f| f.display().to_string()).collect();
            return Err(usage::wrong(format!(
                "there is no file {0}, and no plugin {0:?} in {1}; give the path of a .wasm file, \
                 or run `make plugins`",
                path.display(),
                folders.join(", ")
            )));
        };
        path = found;
    }
    let component = pipeline::runtime()?.load(&path, false)?;
    let text = match args.json {
        true => json(&component)?,
        false => text(&component),
    };
    output::print(&text)
}

fn json(component: &Component) -> anyhow::Result<String> {
    let d = &component.description;
    let inputs: Vec<_> = d.ports.inputs.iter().map(|p| port(&p.name, &p.summary)).collect();
    let outputs: Vec<_> = d.ports.outputs.iter().map(|p| port(&p.name, &p.summary)).collect();
    let schema: serde_json::Value =
        serde_json::from_str(&d.config_schema).unwrap_or(serde_json::Value::Null);
    let json = serde_json::json!({
        "name": d.name, "version": d.version, "summary": d.summary,
        "kind": kind(component.kind), "digest": component.digest, "bytes": component.bytes,
        "inputs": inputs, "outputs": outputs, "maps": d.maps,
        "state_version": d.state_version, "reads_state_versions": d.reads_state_versions,
        "imports": component.imports, "config_schema": schema,
    });
    Ok(serde_json::to_string_pretty(&json)? + "\n")
}

fn text(component: &Component) -> String {
    let d = &component.description;
    let mut lines = vec![
        format!("{} {}  ({}, {} bytes)", d.name, d.version, kind(component.kind), component.bytes),
        d.summary.clone(),
        format!("digest   {}", component.digest),
    ];
    lines.extend(d.ports.inputs.iter().map(|p| format!("input    {}: {}", p.name, p.summary)));
    for p in &d.ports.outputs {
        let mut notes = String::new();
        if p.key == Treatment::Assigned {
            notes.push_str(" [assigns keys]");
        }
        if p.event_time == Treatment::Assigned {
            notes.push_str(" [assigns event time]");
        }
        lines.push(format!("output   {}: {}{notes}", p.name, p.summary));
    }
    if component.kind == Kind::Keyed {
        let (version, read) = (d.state_version, &d.reads_state_versions);
        lines.push(format!("state    version {version}, reads {read:?}"));
        lines.extend(d.maps.iter().map(|map| format!("map      {map}")));
    }
    lines.extend(component.imports.iter().map(|import| format!("import   {import}")));
    if !d.config_schema.is_empty() {
        lines.push(format!("config   {}", d.config_schema.trim()));
    }
    lines.join("\n") + "\n"
}

fn port(name: &str, summary: &str) -> serde_json::Value {
    serde_json::json!({ "name": name, "summary": summary })
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Stateless => "stateless",
        Kind::Keyed => "keyed",
    }
}
