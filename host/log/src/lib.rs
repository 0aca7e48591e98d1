//! The embedded log: topics with partitions and offsets on local disk, committed atomically
//! together with a payload of the application.
//!
//! Invariant: what a reopened log holds is exactly what the last finished [`Log::commit`] was given,
//! whenever the process or the machine stopped.
//!
//! A data directory holds:
//!
//! ```text
//! lock                               held by the one writer; its content is the writer's process id
//! COMMIT                             the commit point: which segments count, up to which byte, and
//!                                    the payload; replaced as a whole (see the `manifest` module)
//! topics/<topic>/<partition>/<number, 20 digits>.log
//!                                    segments: frames one after the other (see [`frame`]); the
//!                                    number is the offset of the first record, or the next that is
//!                                    free where segments of nothing but watermarks come before it
//! ```
//!
//! Everything below `topics` that `COMMIT` does not name is a leftover of a crash and is removed by
//! the next [`Log::open`].
//!
//! The life of an epoch: any number of threads [`Partition::append`]; at a barrier where none of them
//! does, [`Log::freeze`] takes the lengths; appending goes on while another thread has
//! [`Log::commit`] wait for the disks.
//!
//! ```
//! use wasmill_log::{Log, Options, Position, Records, TopicOptions};
//!
//! # let dir = tempfile::tempdir()?;
//! let log = Log::open(dir.path(), Options::default())?;
//! log.create_topic("orders", 4, TopicOptions::default())?;
//! let orders = log.partition("orders", 0)?;
//! let mut records = Records { timestamps: vec![1_000], clocks: vec![900], ..Records::default() };
//! records.keys.push(b"alice");
//! records.values.push(b"3 pears");
//! let (epoch, producer) = (log.epoch() + 1, 0);
//! assert_eq!(orders.append(epoch, producer, records)?, 0);
//!
//! let mut reader = orders.reader(Position::start());
//! let (frame, row) = reader.next()?.expect("one frame was appended");
//! assert_eq!(frame.records().map(|r| r.values.bytes(row)), Some(&b"3 pears"[..]));
//!
//! let snapshot = log.freeze()?;
//! log.commit(snapshot, epoch, serde_json::json!({ "position": reader.position() }))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod frame;

mod commit;
mod disk;
mod error;
mod locking;
mod log;
mod manifest;
mod partition;
mod position;
mod read_only;
mod reader;
mod records;
mod recovery;
mod segments;
mod tail;
mod topic;

pub use commit::Snapshot;
pub use error::Error;
pub use frame::{Body, Frame};
pub use log::{Log, Options};
pub use partition::Partition;
pub use position::Position;
pub use read_only::ReadOnlyLog;
pub use reader::Reader;
pub use records::Records;
pub use topic::{Retention, TopicOptions};
