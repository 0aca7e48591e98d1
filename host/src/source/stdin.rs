//! Standard input. Invariant: what was read is handed over in order, and its end only after all of
//! it; a failure of the thread is never taken for the end.

use std::io::{self, Cursor, Read};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};

use wasmill_pipeline::Compression;

use super::compression::{MAGIC_BYTES, Method, decode, is_undecided};
use super::lines::BLOCK_BYTES;
use super::reader::Input;
use super::{Error, Partition};

/// How many blocks wait to be taken before the thread stops reading, so 4 MiB at most.
const WAITING_BLOCKS: usize = 16;

/// Reads in a thread of its own, which ends with the input, or at the next read after the reader
/// was dropped. The stream says [`io::ErrorKind::WouldBlock`] while nothing is there.
pub(super) fn open<R>(partition: &Partition, input: R) -> Result<Input, Error>
where
    R: Read + Send + 'static,
{
    let (sender, blocks) = sync_channel(WAITING_BLOCKS);
    let setting = partition.encoding.compression;
    std::thread::Builder::new()
        .name(format!("source.{}", partition.source))
        .spawn(move || {
            let end = pump(input, setting, &sender).map(|()| Vec::new());
            // Nobody waits for the end if the reader is gone.
            let _ = sender.send(end);
        })
        .map_err(|e| partition.io("start a thread to read", e))?;
    let stream = Blocks { blocks, block: Cursor::new(Vec::new()), is_ended: false };
    Ok(Input { stream: Box::new(stream), watch: None })
}

/// Sends what comes in until it ends.
fn pump<R: Read + Send + 'static>(
    mut input: R,
    setting: Compression,
    sender: &SyncSender<io::Result<Vec<u8>>>,
) -> io::Result<()> {
    let mut first = Vec::new();
    if setting == Compression::Auto {
        while is_undecided(&first) {
            let mut more = [0; MAGIC_BYTES];
            let n = read(&mut input, &mut more[first.len()..])?;
            if n == 0 {
                break;
            }
            first.extend_from_slice(&more[first.len()..][..n]);
        }
    }
    let method = Method::detect(setting, &first, "");
    let whole = Cursor::new(first).chain(input);
    let mut stream = decode(whole, method)?;
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        let n = read(&mut stream, &mut block)?;
        if n == 0 || sender.send(Ok(block[..n].to_vec())).is_err() {
            return Ok(());
        }
    }
}

fn read<R: Read + ?Sized>(input: &mut R, to: &mut [u8]) -> io::Result<usize> {
    loop {
        match input.read(to) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// What the thread has read; an empty block is the end.
struct Blocks {
    blocks: Receiver<io::Result<Vec<u8>>>,
    block: Cursor<Vec<u8>>,
    is_ended: bool,
}

impl Read for Blocks {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let n = self.block.read(to)?;
        if n > 0 || self.is_ended {
            return Ok(n);
        }
        match self.blocks.try_recv() {
            Ok(block) => {
                let block = block?;
                self.is_ended = block.is_empty();
                self.block = Cursor::new(block);
                self.block.read(to)
            }
            Err(TryRecvError::Empty) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryRecvError::Disconnected) => Err(io::Error::other("the reading thread died")),
        }
    }
}
