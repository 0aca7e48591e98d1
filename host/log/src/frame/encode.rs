//! Frames to bytes. Invariant: all but the base offset and the checksum is written before a lock is
//! taken; [`Seal::close`] adds those in constant time.

use wasmill_abi::Column;

use super::{
    HEADER_BYTES, HEADER_VALUES_VALIDITY, HEADERS, KEYS_VALIDITY, KIND_RECORDS, KIND_WATERMARK,
    MAGIC, VALUES_VALIDITY, VERSION,
};
use crate::Records;

/// What is still to be done for an encoded frame.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub(crate) struct Seal {
    payload_crc: u32,
}

impl Seal {
    /// The seal of a frame with this payload.
    pub(crate) fn of(payload: &[u8]) -> Self {
        Self { payload_crc: crc32c::crc32c(payload) }
    }

    /// Writes the base offset and the checksum into the header at the start of `frame`.
    pub(crate) fn close(self, frame: &mut [u8], base_offset: u64) {
        frame[16..24].copy_from_slice(&base_offset.to_le_bytes());
        let crc = checksum(self.payload_crc, frame);
        frame[12..16].copy_from_slice(&crc.to_le_bytes());
    }
}

/// The checksum of a frame, from that of its payload and its header.
pub(super) fn checksum(payload_crc: u32, header: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(payload_crc, &header[..12]);
    crc32c::crc32c_append(crc, &header[16..HEADER_BYTES])
}

/// Appends a frame of records, which must pass [`Records::check`] and keep to the size limits.
pub(crate) fn encode_records(
    out: &mut Vec<u8>,
    epoch: u64,
    producer: u32,
    records: &Records,
) -> Seal {
    let mut flags = 0;
    let mut flag = |on: bool, bit: u16| flags |= if on { bit } else { 0 };
    flag(!records.keys.validity.is_empty(), KEYS_VALIDITY);
    flag(!records.values.validity.is_empty(), VALUES_VALIDITY);
    if let Some(headers) = &records.headers {
        flag(true, HEADERS);
        flag(!headers.values.validity.is_empty(), HEADER_VALUES_VALIDITY);
    }
    out.reserve(HEADER_BYTES + 20 + records.size_bytes());
    let start = begin(out, KIND_RECORDS, flags, epoch, records.len(), producer);
    put_length(out, records.keys.data.len());
    put_length(out, records.values.data.len());
    put_i64s(out, &records.timestamps);
    put_i64s(out, &records.clocks);
    put_columns(out, &records.keys, &records.values);
    out.extend_from_slice(&records.keys.validity);
    out.extend_from_slice(&records.values.validity);
    if let Some(headers) = &records.headers {
        put_length(out, headers.names.len());
        put_length(out, headers.names.data.len());
        put_length(out, headers.values.data.len());
        put_u32s(out, &headers.ends);
        put_columns(out, &headers.names, &headers.values);
        out.extend_from_slice(&headers.values.validity);
    }
    finish(out, start)
}

/// Appends a frame of a watermark.
pub(crate) fn encode_watermark(
    out: &mut Vec<u8>,
    epoch: u64,
    producer: u32,
    watermark: i64,
    idle: bool,
) -> Seal {
    let start = begin(out, KIND_WATERMARK, 0, epoch, 0, producer);
    out.extend_from_slice(&watermark.to_le_bytes());
    out.push(u8::from(idle));
    finish(out, start)
}

/// Appends a header but for payload length, base offset and checksum; returns where it starts.
fn begin(
    out: &mut Vec<u8>,
    kind: u8,
    flags: u16,
    epoch: u64,
    count: usize,
    producer: u32,
) -> usize {
    let start = out.len();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[VERSION, kind]);
    out.extend_from_slice(&flags.to_le_bytes());
    out.extend_from_slice(&[0; 16]);
    out.extend_from_slice(&epoch.to_le_bytes());
    put_length(out, count);
    out.extend_from_slice(&producer.to_le_bytes());
    out.extend_from_slice(&[0; 8]);
    start
}

fn finish(out: &mut [u8], start: usize) -> Seal {
    let payload = start + HEADER_BYTES;
    let length = length(out.len() - payload);
    out[start + 8..start + 12].copy_from_slice(&length.to_le_bytes());
    Seal::of(&out[payload..])
}

fn length(length: usize) -> u32 {
    u32::try_from(length).expect("frames are split and checked to stay below 2^30 bytes")
}

fn put_length(out: &mut Vec<u8>, value: usize) {
    out.extend_from_slice(&length(value).to_le_bytes());
}

fn put_columns(out: &mut Vec<u8>, first: &Column, second: &Column) {
    put_u32s(out, &first.ends);
    put_u32s(out, &second.ends);
    out.extend_from_slice(&first.data);
    out.extend_from_slice(&second.data);
}

fn put_i64s(out: &mut Vec<u8>, values: &[i64]) {
    let start = out.len();
    out.resize(start + 8 * values.len(), 0);
    let (room, _) = out[start..].as_chunks_mut();
    for (to, value) in room.iter_mut().zip(values) {
        *to = value.to_le_bytes();
    }
}

fn put_u32s(out: &mut Vec<u8>, values: &[u32]) {
    let start = out.len();
    out.resize(start + 4 * values.len(), 0);
    let (room, _) = out[start..].as_chunks_mut();
    for (to, value) in room.iter_mut().zip(values) {
        *to = value.to_le_bytes();
    }
}
