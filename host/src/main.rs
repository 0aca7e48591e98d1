//! The command line of Wasmill.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

mod command;

use command::output::note;
use command::usage;

/// State is many small values that come and go for weeks: this one keeps memory from fragmenting.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What is free goes back to the system soon, so that a bound on memory is one.
#[allow(unsafe_code)]
#[unsafe(export_name = "_rjem_malloc_conf")]
static MALLOC_CONF: &[u8; 37] = b"dirty_decay_ms:1000,muzzy_decay_ms:0\0";

/// A stream processor whose every operator is a sandboxed WebAssembly component
#[derive(Debug, clap::Parser)]
#[command(name = "wasmill", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// What to log, for example info or warn,plugin=debug
    #[arg(long, global = true, value_name = "FILTER", env = "WASMILL_LOG", default_value = "warn")]
    log: String,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Run(command::run::Args),
    Replay(command::replay::Args),
    Savepoint(command::savepoint::Args),
    Check(command::check::Args),
    Build(command::build::Args),
    New(command::new::Args),
    Describe(command::describe::Args),
    Topic(command::topic::Args),
    State(command::state::Args),
    Status(command::status::Args),
    Generate(command::generate::Args),
    Demo(command::demo::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = match EnvFilter::try_new(&cli.log) {
        Ok(filter) => filter,
        Err(e) => {
            note(&format!(
                "error: --log {:?}: {e}; write for example info or warn,plugin=debug\n",
                cli.log
            ));
            return ExitCode::from(usage::CODE);
        }
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    let result = match cli.command {
        Command::Run(args) => command::run::run(&args),
        Command::Replay(args) => command::replay::run(&args),
        Command::Savepoint(args) => command::savepoint::run(&args),
        Command::Check(args) => command::check::run(&args),
        Command::Build(args) => command::build::run(args),
        Command::New(args) => command::new::run(args),
        Command::Describe(args) => command::describe::run(&args),
        Command::Topic(args) => command::topic::run(args),
        Command::State(args) => command::state::run(args),
        Command::Status(args) => command::status::run(args),
        Command::Generate(args) => command::generate::run(args),
        Command::Demo(args) => command::demo::run(&args),
    };
    result.unwrap_or_else(|error| {
        match error.is::<command::pipeline::Problems>() {
            true => note(&format!("{error}\n")),
            false => note(&format!("error: {}\n", explain(&error))),
        }
        match usage::is_usage(&error) {
            true => ExitCode::from(usage::CODE),
            false => ExitCode::FAILURE,
        }
    })
}

/// An error and its causes, without those that it has told already.
fn explain(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}
