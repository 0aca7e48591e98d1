//! Frames, the unit that segments are made of.
//!
//! Invariant: a frame is either exactly what was appended or an error.
//!
//! A frame is a header of 48 bytes and a payload. All integers are little endian.
//!
//! ```text
//! byte  size
//!    0     4  magic "WMLF"
//!    4     1  format version, 1
//!    5     1  kind: 1 records, 2 watermark
//!    6     2  flags, for records: 1 keys have validity, 2 values have validity, 4 headers follow,
//!             8 header values have validity; the other bits are 0
//!    8     4  length of the payload in bytes, at most 2^30
//!   12     4  CRC-32C of the payload, then header bytes 0 to 11, then header bytes 16 to 47
//!   16     8  base offset: the offset of the first record; of a watermark, of the next record
//!   24     8  epoch
//!   32     4  number of records; 0 for a watermark
//!   36     4  producer
//!   40     8  0
//! ```
//!
//! The payload of `n` records:
//!
//! ```text
//!         4  length of the keys in bytes, k
//!         4  length of the values in bytes, v
//!        8n  timestamps, i64
//!        8n  clocks, i64: the watermark that held before each record
//!        4n  where each key ends, u32         4n  where each value ends, u32
//!         k  keys                              v  values
//!    ⌈n/8⌉  validity of keys, if flagged   ⌈n/8⌉  validity of values, if flagged
//! ```
//!
//! and, if headers follow, `h` of them:
//!
//! ```text
//!         4  h        4  length of the names in bytes, m        4  length of the values in bytes, w
//!        4n  where the headers of each record end, u32
//!        4h  where each name ends, u32        4h  where each value ends, u32
//!         m  names, UTF-8                      w  values
//!                                          ⌈h/8⌉  validity of values, if flagged
//! ```
//!
//! The payload of a watermark: the watermark, i64, then its status, u8: 0 active, 1 idle.

mod decode;
mod encode;

pub(crate) use decode::{Damage, Header, decode};
pub(crate) use encode::{Seal, encode_records, encode_watermark};

use crate::Records;

/// The length of a frame's header in bytes.
pub(crate) const HEADER_BYTES: usize = 48;

/// The longest payload, in bytes. Longer lengths on disk are taken for damage, not allocated.
pub(crate) const MAX_PAYLOAD_BYTES: usize = 1 << 30;

const MAGIC: [u8; 4] = *b"WMLF";
const VERSION: u8 = 1;
const KIND_RECORDS: u8 = 1;
const KIND_WATERMARK: u8 = 2;
const KEYS_VALIDITY: u16 = 1;
const VALUES_VALIDITY: u16 = 2;
const HEADERS: u16 = 4;
const HEADER_VALUES_VALIDITY: u16 = 8;

/// What one append put into a partition, or a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The offset of the first record; of a watermark, that of the record that follows it.
    pub base_offset: u64,
    /// The epoch in which it was appended, as the application counts.
    pub epoch: u64,
    /// Who appended it, as the application numbers them.
    pub producer: u32,
    /// What was appended.
    pub body: Body,
}

/// The content of a [`Frame`].
#[expect(clippy::large_enum_variant, reason = "nearly all frames are records")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// At least one record.
    Records(Records),
    /// What a producer says about event time. Takes no offset.
    Watermark {
        /// No record of this producer to come is older, in ms since the Unix epoch.
        watermark: i64,
        /// The producer has nothing to send for now, so nobody should wait for it.
        idle: bool,
    },
}

impl Frame {
    /// Appends a frame of records, at offset 0, to `out`: a frame outside of a log.
    pub fn write_records(out: &mut Vec<u8>, epoch: u64, producer: u32, records: &Records) {
        let start = out.len();
        encode_records(out, epoch, producer, records).close(&mut out[start..], 0);
    }

    /// Appends a frame of a watermark, at offset 0, to `out`: a frame outside of a log.
    pub fn write_watermark(
        out: &mut Vec<u8>,
        epoch: u64,
        producer: u32,
        watermark: i64,
        idle: bool,
    ) {
        let start = out.len();
        encode_watermark(out, epoch, producer, watermark, idle).close(&mut out[start..], 0);
    }

    /// Reads a frame from the beginning of `bytes`.
    ///
    /// # Errors
    /// What was found and what was expected, when the bytes are damaged or no frame.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        decode(bytes)
            .map_err(|d| format!("byte {}: found {}, expected {}", d.byte, d.found, d.expected))
    }

    /// The offset that follows the last record.
    pub fn end_offset(&self) -> u64 {
        self.base_offset + self.records().map_or(0, |r| r.len() as u64)
    }

    /// The records, none in a watermark.
    pub fn records(&self) -> Option<&Records> {
        match &self.body {
            Body::Records(records) => Some(records),
            Body::Watermark { .. } => None,
        }
    }

    /// Whether a reader that wants `offset` next has no use for the frame.
    pub(crate) fn is_before(&self, offset: u64) -> bool {
        is_before(self.base_offset, self.records().map_or(0, Records::len) as u64, offset)
    }
}

fn is_before(base_offset: u64, count: u64, offset: u64) -> bool {
    // A watermark (no records) at the offset wanted comes before that record, so it is of use.
    if count == 0 { base_offset < offset } else { base_offset.saturating_add(count) <= offset }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::tests::any_records;
    use proptest::prelude::*;

    fn encoded(frame: &Frame) -> Vec<u8> {
        let mut bytes = Vec::new();
        let seal = match &frame.body {
            Body::Records(r) => encode_records(&mut bytes, frame.epoch, frame.producer, r),
            Body::Watermark { watermark, idle } => {
                encode_watermark(&mut bytes, frame.epoch, frame.producer, *watermark, *idle)
            }
        };
        seal.close(&mut bytes, frame.base_offset);
        bytes
    }

    fn any_frame(max_rows: usize) -> impl Strategy<Value = Frame> {
        let records = any_records(max_rows)
            .prop_filter("a frame has records", |r| !r.is_empty())
            .prop_map(Body::Records);
        let watermark = (any::<i64>(), any::<bool>())
            .prop_map(|(watermark, idle)| Body::Watermark { watermark, idle });
        let body = prop_oneof![3 => records, 1 => watermark];
        (0..u64::MAX / 2, any::<u64>(), any::<u32>(), body).prop_map(
            |(base_offset, epoch, producer, body)| Frame { base_offset, epoch, producer, body },
        )
    }

    proptest! {
        #[test]
        fn a_frame_comes_back_as_it_was(frame in any_frame(40), after in any::<[u8; 3]>()) {
            let mut bytes = encoded(&frame);
            let header = Header::read(&bytes).unwrap();
            prop_assert_eq!(header.frame_bytes(), bytes.len());
            for offset in [0, frame.base_offset, frame.base_offset + 1, frame.end_offset()] {
                prop_assert_eq!(header.is_before(offset), frame.is_before(offset));
            }
            bytes.extend(after);
            prop_assert_eq!(decode(&bytes).unwrap(), frame);
        }

        #[test]
        fn every_flipped_bit_is_noticed(frame in any_frame(6)) {
            let bytes = encoded(&frame);
            for bit in 0..bytes.len() * 8 {
                let mut bad = bytes.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                prop_assert!(decode(&bad).is_err(), "bit {} went unnoticed", bit);
            }
        }

        #[test]
        fn every_missing_tail_is_noticed(frame in any_frame(6)) {
            let bytes = encoded(&frame);
            for cut in 0..bytes.len() {
                prop_assert!(decode(&bytes[..cut]).is_err(), "cut at {} went unnoticed", cut);
            }
        }

        #[test]
        fn a_hostile_payload_with_a_right_checksum_never_panics(
            frame in any_frame(4), at in any::<proptest::sample::Index>(), with in any::<[u8; 4]>(),
            flags in any::<u16>(), count in 0..20_u32) {
            let mut bytes = encoded(&frame);
            let at = HEADER_BYTES + at.index(bytes.len() - HEADER_BYTES - 3);
            bytes[at..at + 4].copy_from_slice(&with);
            bytes[6..8].copy_from_slice(&(flags % 16).to_le_bytes());
            bytes[32..36].copy_from_slice(&count.to_le_bytes());
            Seal::of(&bytes[HEADER_BYTES..]).close(&mut bytes, frame.base_offset);
            if let Ok(Frame { body: Body::Records(records), .. }) = decode(&bytes) {
                prop_assert_eq!(records.check(), Ok(()));
            }
        }
    }

    #[test]
    fn the_layout_stays_as_it_is_documented() {
        let mut records = Records { timestamps: vec![1], clocks: vec![-1], ..Records::default() };
        records.keys.push(b"k");
        records.values.push_null();
        let body = Body::Records(records);
        let bytes = encoded(&Frame { base_offset: 5, epoch: 6, producer: 7, body });
        let mut expected = b"WMLF\x01\x01\x02\x00".to_vec();
        expected.extend(34_u32.to_le_bytes());
        expected.extend(&bytes[12..16]);
        expected.extend([5_u64, 6].map(u64::to_le_bytes).concat());
        expected.extend([1_u32, 7, 0, 0].map(u32::to_le_bytes).concat());
        expected.extend([1_u32, 0].map(u32::to_le_bytes).concat());
        expected.extend([1_i64, -1].map(i64::to_le_bytes).concat());
        expected.extend([1_u32, 0].map(u32::to_le_bytes).concat());
        expected.extend(b"k\xfe");
        assert_eq!(bytes, expected);
        let covered = [&bytes[48..], &bytes[..12], &bytes[16..48]].concat();
        assert_eq!(bytes[12..16], crc32c::crc32c(&covered).to_le_bytes());
    }
}
