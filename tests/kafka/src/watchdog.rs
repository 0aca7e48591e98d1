//! Ends the processes of a cluster when the process that holds it is gone.
//!
//! Invariant: from before a guarded process runs its program until [`Watchdog::release`], the end of
//! this process, of whatever kind, is followed by the end of that one.
//!
//! A shell reads the ids of the guarded processes from a pipe. The other end of it closes with this
//! process, even where that is killed. Both the shell and the guarded processes are in groups of
//! their own, so that a Ctrl-C does not reach them first.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Write},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
};

/// Reads `+ ID` and `- ID`; at the end of the input, kills what is left and removes its data once it
/// is gone (or only waits for a parent to look at it, which may never come in a container).
const GUARD: &str = r#"
trap '' INT TERM HUP
ids=' '
while read -r sign id; do
  case $sign in
    +) ids="$ids$id " ;;
    -) ids="${ids%% $id *} ${ids#* $id }" ;;
  esac
done
[ "$ids" = ' ' ] && exit
kill -KILL $ids 2>/dev/null
tries=0
for id in $ids; do
  while kill -0 "$id" 2>/dev/null && [ $tries -lt 100 ]; do sleep 0.05; tries=$((tries + 1)); done
done
rm -rf "${1:?}"/*/
"#;

/// Waits for a word before it becomes the program; ends where the word does not come.
const GATE: &str = r#"read -r go && [ "$go" = go ] && exec "$@" </dev/null"#;

/// The shell that watches over a cluster's processes.
#[derive(Debug)]
pub(crate) struct Watchdog {
    shell: Child,
    orders: Option<ChildStdin>,
}

impl Watchdog {
    /// Starts watching, with the folder whose subfolders are removed after a violent end.
    pub(crate) fn start(folder: &Path) -> io::Result<Self> {
        let mut shell = Command::new("/bin/sh")
            .args([OsStr::new("-c"), OsStr::new(GUARD), OsStr::new("watchdog"), folder.as_ref()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let orders = shell.stdin.take();
        Ok(Self { shell, orders })
    }

    /// Starts a program that ends with this process. Its arguments, environment and folder are those
    /// of `command`; its input is empty, and what it says goes into the file.
    pub(crate) fn spawn(&mut self, command: &Command, output: &File) -> io::Result<Child> {
        let mut gate = gated(command);
        gate.stdin(Stdio::piped()).stdout(output.try_clone()?).stderr(output.try_clone()?);
        let mut child = gate.spawn()?;
        let opened = self.order('+', child.id()).and_then(|()| {
            let mut input = child.stdin.take().expect("the input was asked for as a pipe");
            input.write_all(b"go\n")
        });
        if let Err(error) = opened {
            // Without the word it has not become the program.
            drop(child.stdin.take());
            child.kill()?;
            child.wait()?;
            return Err(error);
        }
        Ok(child)
    }

    /// Forgets a process that has been killed, before it is waited for: its id is not free till then.
    pub(crate) fn release(&mut self, id: u32) -> io::Result<()> {
        self.order('-', id)
    }

    fn order(&mut self, sign: char, id: u32) -> io::Result<()> {
        let orders = self.orders.as_mut().expect("the pipe is open until the watchdog is dropped");
        writeln!(orders, "{sign} {id}")
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.orders.take());
        // It ends at the end of its input; there is nothing to do about a failure.
        let _ = self.shell.wait();
    }
}

fn gated(command: &Command) -> Command {
    let mut gate = Command::new("/bin/sh");
    gate.args(["-c", GATE, "gate"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => gate.env(name, value),
            None => gate.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        gate.current_dir(folder);
    }
    gate.process_group(0);
    gate
}
