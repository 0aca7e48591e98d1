//! `wasmill describe`: what a component says of itself.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use wasmill::engine::prepare;
use wasmill::runtime::Kind;
use wasmill_abi::Treatment;

use super::pipeline;

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
/// When the file is no plugin of this host.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut path = args.component.clone();
    if !path.exists() {
        let file = format!("{}.wasm", path.display());
        let folders = prepare::standard_folders();
        let Some(found) = folders.iter().map(|f| f.join(&file)).find(|p| p.is_file()) else {
            let folders: Vec<_> = folders.iter().map(|f| f.display().to_string()).collect();
            bail!(
                "there is no file {0}, and no plugin {0:?} in {1}; give the path of a .wasm file, \
                 or run `make plugins`",
                path.display(),
                folders.join(", ")
            );
        };
        path = found;
    }
    let component = pipeline::runtime()?.load(&path, false)?;
    let d = &component.description;
    if args.json {
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
        println!("{}", serde_json::to_string_pretty(&json)?);
        return Ok(ExitCode::SUCCESS);
    }
    println!("{} {}  ({}, {} bytes)", d.name, d.version, kind(component.kind), component.bytes);
    println!("{}", d.summary);
    println!("digest   {}", component.digest);
    for p in &d.ports.inputs {
        println!("input    {}: {}", p.name, p.summary);
    }
    for p in &d.ports.outputs {
        let mut notes = String::new();
        if p.key == Treatment::Assigned {
            notes.push_str(" [assigns keys]");
        }
        if p.event_time == Treatment::Assigned {
            notes.push_str(" [assigns event time]");
        }
        println!("output   {}: {}{notes}", p.name, p.summary);
    }
    if component.kind == Kind::Keyed {
        println!("state    version {}, reads {:?}", d.state_version, d.reads_state_versions);
        for map in &d.maps {
            println!("map      {map}");
        }
    }
    for import in &component.imports {
        println!("import   {import}");
    }
    if !d.config_schema.is_empty() {
        println!("config   {}", d.config_schema.trim());
    }
    Ok(ExitCode::SUCCESS)
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
