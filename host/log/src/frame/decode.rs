//! Bytes to frames. Invariant: no length or count is used before it is checked against the bytes
//! that are there, and nothing is returned that fails its checksum.

use wasmill_abi::{Column, Headers};

use super::encode::checksum;
use super::{
    Body, Frame, HEADER_BYTES, HEADER_VALUES_VALIDITY, HEADERS, KEYS_VALIDITY, KIND_RECORDS,
    KIND_WATERMARK, MAGIC, MAX_PAYLOAD_BYTES, VALUES_VALIDITY, VERSION,
};
use crate::Records;

/// Why bytes are not a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Damage {
    /// Where, in bytes from the start of the frame.
    pub(crate) byte: usize,
    /// What is there.
    pub(crate) found: String,
    /// What should be there.
    pub(crate) expected: String,
}

impl Damage {
    pub(crate) fn new(byte: usize, found: String, expected: impl Into<String>) -> Self {
        Self { byte, found, expected: expected.into() }
    }
}

/// The header of a frame. Its fields are not to be trusted before the checksum was verified.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    kind: u8,
    flags: u16,
    payload_bytes: usize,
    crc: u32,
    base_offset: u64,
    epoch: u64,
    count: u32,
    producer: u32,
}

impl Header {
    /// Reads the header at the start of `bytes`.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Damage> {
        let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
            let found = format!("{} bytes", bytes.len());
            return Err(Damage::new(0, found, format!("a frame header of {HEADER_BYTES} bytes")));
        };
        if header[..4] != MAGIC {
            let found = format!("{:02x?}", &header[..4]);
            return Err(Damage::new(0, found, "the start of a frame, \"WMLF\""));
        }
        if header[4] != VERSION {
            let found = format!("frame format version {}", header[4]);
            return Err(Damage::new(4, found, format!("version {VERSION}")));
        }
        let mut rest = Bytes { bytes: header, at: 5 };
        let [kind] = rest.array()?;
        let flags = u16::from_le_bytes(rest.array()?);
        let payload_bytes = rest.length()?;
        if payload_bytes > MAX_PAYLOAD_BYTES {
            let found = format!("a payload of {payload_bytes} bytes");
            return Err(Damage::new(8, found, format!("at most {MAX_PAYLOAD_BYTES}")));
        }
        let crc = rest.u32()?;
        let base_offset = u64::from_le_bytes(rest.array()?);
        let epoch = u64::from_le_bytes(rest.array()?);
        let (count, producer) = (rest.u32()?, rest.u32()?);
        Ok(Self { kind, flags, payload_bytes, crc, base_offset, epoch, count, producer })
    }

    /// The length of the frame in bytes.
    pub(crate) fn frame_bytes(&self) -> usize {
        HEADER_BYTES + self.payload_bytes
    }

    /// The frame of this header, at the start of `bytes`, when it is whole and undamaged.
    pub(crate) fn verify<'a>(&self, bytes: &'a [u8]) -> Result<&'a [u8], Damage> {
        let Some(frame) = bytes.get(..self.frame_bytes()) else {
            let found = format!("{} bytes", bytes.len());
            return Err(Damage::new(0, found, format!("a frame of {} bytes", self.frame_bytes())));
        };
        let crc = checksum(crc32c::crc32c(&frame[HEADER_BYTES..]), frame);
        if crc != self.crc {
            let found = format!("content with checksum {crc:08x}");
            return Err(Damage::new(12, found, format!("{:08x}", self.crc)));
        }
        Ok(frame)
    }

    /// As [`Frame::is_before`].
    pub(crate) fn is_before(&self, offset: u64) -> bool {
        super::is_before(self.base_offset, u64::from(self.count), offset)
    }
}

/// Reads and verifies the frame at the start of `bytes`; what follows it is left alone.
pub(crate) fn decode(bytes: &[u8]) -> Result<Frame, Damage> {
    let header = Header::read(bytes)?;
    let frame = header.verify(bytes)?;
    let mut rest = Bytes { bytes: frame, at: HEADER_BYTES };
    let body = match header.kind {
        KIND_RECORDS => Body::Records(records(&header, &mut rest)?),
        KIND_WATERMARK => watermark(&header, &mut rest)?,
        kind => {
            return Err(Damage::new(5, format!("frame kind {kind}"), "1 (records), 2 (watermark)"));
        }
    };
    if rest.at != frame.len() {
        let found = format!("{} bytes after the last column", frame.len() - rest.at);
        return Err(Damage::new(rest.at, found, "none"));
    }
    let Header { base_offset, epoch, producer, .. } = header;
    if base_offset.checked_add(u64::from(header.count)).is_none() {
        return Err(Damage::new(16, format!("base offset {base_offset}"), "less"));
    }
    Ok(Frame { base_offset, epoch, producer, body })
}

fn records(header: &Header, rest: &mut Bytes) -> Result<Records, Damage> {
    let rows = header.count as usize;
    if rows == 0 {
        return Err(Damage::new(32, "a frame of no records".to_owned(), "at least one"));
    }
    let known = KEYS_VALIDITY | VALUES_VALIDITY | HEADERS | HEADER_VALUES_VALIDITY;
    if header.flags & !known != 0 {
        let found = format!("flags {:#06x}", header.flags);
        return Err(Damage::new(6, found, format!("only bits of {known:#06x}")));
    }
    let has = |flag| header.flags & flag != 0;
    let (keys, values) = (rest.length()?, rest.length()?);
    let timestamps = rest.i64s(rows)?;
    let clocks = rest.i64s(rows)?;
    let (mut keys, mut values) = rest.columns(rows, keys, values)?;
    keys.validity = rest.validity(rows, has(KEYS_VALIDITY))?;
    values.validity = rest.validity(rows, has(VALUES_VALIDITY))?;
    let headers = if has(HEADERS) {
        let (count, names, values) = (rest.length()?, rest.length()?, rest.length()?);
        let ends = rest.u32s(rows)?;
        let (names, mut values) = rest.columns(count, names, values)?;
        values.validity = rest.validity(count, has(HEADER_VALUES_VALIDITY))?;
        Some(Headers { ends, names, values })
    } else {
        None
    };
    let records = Records { timestamps, clocks, keys, values, headers };
    match records.check() {
        Ok(()) => Ok(records),
        Err(broken) => Err(Damage::new(HEADER_BYTES, broken.0, "well formed columns")),
    }
}

fn watermark(header: &Header, rest: &mut Bytes) -> Result<Body, Damage> {
    if header.count != 0 {
        let found = format!("a watermark of {} records", header.count);
        return Err(Damage::new(32, found, "none"));
    }
    let watermark = i64::from_le_bytes(rest.array()?);
    match rest.array()? {
        [status @ (0 | 1)] => Ok(Body::Watermark { watermark, idle: status == 1 }),
        [status] => {
            let found = format!("watermark status {status}");
            Err(Damage::new(rest.at - 1, found, "0 (active) or 1 (idle)"))
        }
    }
}

/// The rest of a frame.
struct Bytes<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Bytes<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Damage> {
        let rest = &self.bytes[self.at..];
        let Some(taken) = rest.get(..length) else {
            let found = format!("{} bytes to the end of the frame", rest.len());
            return Err(Damage::new(self.at, found, format!("{length} bytes")));
        };
        self.at += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Damage> {
        Ok(*self.take(N)?.first_chunk().expect("take returns as many bytes as asked for"))
    }

    fn u32(&mut self) -> Result<u32, Damage> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn length(&mut self) -> Result<usize, Damage> {
        Ok(self.u32()? as usize)
    }

    fn i64s(&mut self, count: usize) -> Result<Vec<i64>, Damage> {
        let (values, _) = self.take(count.saturating_mul(8))?.as_chunks();
        Ok(values.iter().copied().map(i64::from_le_bytes).collect())
    }

    fn u32s(&mut self, count: usize) -> Result<Vec<u32>, Damage> {
        let (values, _) = self.take(count.saturating_mul(4))?.as_chunks();
        Ok(values.iter().copied().map(u32::from_le_bytes).collect())
    }

    fn columns(
        &mut self,
        rows: usize,
        first_bytes: usize,
        second_bytes: usize,
    ) -> Result<(Column, Column), Damage> {
        let mut first = Column { ends: self.u32s(rows)?, ..Column::default() };
        let mut second = Column { ends: self.u32s(rows)?, ..Column::default() };
        first.data = self.take(first_bytes)?.to_vec();
        second.data = self.take(second_bytes)?.to_vec();
        Ok((first, second))
    }

    fn validity(&mut self, rows: usize, present: bool) -> Result<Vec<u8>, Damage> {
        if present { Ok(self.take(rows.div_ceil(8))?.to_vec()) } else { Ok(Vec::new()) }
    }
}
