//! How keyed state is written: a row for each key, an entry for each map entry.
//!
//! Store keys are `[stage u16 BE][kind u8]` and then, for a row, the key; for a map entry
//! `[map u16 BE][key length u32 BE][key][entry key]`. So the entries of one map are together and in
//! the order of their entry keys. Invariant: what [`Row::encode_posted`] writes,
//! [`Row::decode_posted`] reads.
//!
//! A row is `[head varint][touched i64 LE][earlier u8][posted i64 LE]*[timers]*[value]`. Of `head`,
//! bit 0 says whether there is a value, bit 1 whether `touched` is there, bit 2 whether `earlier` is;
//! above them is the version. Each bit of `earlier` stands for an index in which the row is posted
//! before its place, see [`Places`], under the time that follows.

use wasmill_abi::TimeDomain;

#[cfg(doc)]
use crate::store::Index;

const KIND_ROW: u8 = 0;
const KIND_MAP: u8 = 1;

/// One timer of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timer {
    /// The clock it follows.
    pub domain: TimeDomain,
    /// Its name within the key.
    pub tag: u64,
    /// When it is due, in ms since the epoch.
    pub time: i64,
}

/// What [`Row::touched`] is where nothing has dated the state.
pub const UNDATED: i64 = i64::MIN;

/// A time for each index over rows, in the order of [`Index::ALL`]; [`NEVER`] where there is none.
///
/// A row has a *place* in an index: when it is due by it. The store finds the rows that are due by
/// what they are *posted* under, a time at or before the place.
pub type Places = [i64; 3];

/// A time that no timer reaches: the last instant belongs to the end of the input.
pub const NEVER: i64 = i64::MAX;

/// What is kept for one key of a stage besides its map entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The version of the plugin's state that `value` is written in.
    pub version: u32,
    /// When a record last touched the key: its event time, or the watermark where that was later;
    /// for state that a timer made, when that timer was due. Only kept for stages with a
    /// `state-ttl`; otherwise [`UNDATED`].
    pub touched: i64,
    /// The timers that are set.
    pub timers: Timers,
    /// The value state.
    pub value: Option<Box<[u8]>>,
}

impl Default for Row {
    fn default() -> Self {
        Self { version: 0, touched: UNDATED, timers: Timers::None, value: None }
    }
}

/// The timers of a key. Most keys have one or none, which takes no memory of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Timers {
    /// None are set.
    #[default]
    None,
    /// One is.
    One(Timer),
    /// Several are. In a box, so that all the others take less.
    #[allow(clippy::box_collection)]
    Many(Box<Vec<Timer>>),
}

impl std::ops::Deref for Timers {
    type Target = [Timer];

    fn deref(&self) -> &[Timer] {
        match self {
            Self::None => &[],
            Self::One(timer) => std::slice::from_ref(timer),
            Self::Many(timers) => timers,
        }
    }
}

impl Timers {
    /// Adds a timer.
    pub fn push(&mut self, timer: Timer) {
        match self {
            Self::None => *self = Self::One(timer),
            Self::One(first) => *self = Self::Many(Box::new(vec![*first, timer])),
            Self::Many(timers) => timers.push(timer),
        }
    }

    /// Keeps the timers that `keep` wants.
    pub fn retain(&mut self, keep: impl Fn(&Timer) -> bool) {
        match self {
            Self::None => {}
            Self::One(timer) => {
                if !keep(timer) {
                    *self = Self::None;
                }
            }
            Self::Many(timers) => {
                timers.retain(keep);
                match timers.as_slice() {
                    [] => *self = Self::None,
                    [timer] => *self = Self::One(*timer),
                    _ => {}
                }
            }
        }
    }

    /// The memory they take beyond their row, in bytes.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::Many(timers) => size_of_val(&**timers) + timers.capacity() * size_of::<Timer>(),
            _ => 0,
        }
    }
}

impl FromIterator<Timer> for Timers {
    fn from_iter<I: IntoIterator<Item = Timer>>(timers: I) -> Self {
        let mut all = Self::None;
        timers.into_iter().for_each(|timer| all.push(timer));
        all
    }
}

/// Bytes that are no row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stored row of a key can't be read: {0}")]
pub struct Corrupt(pub &'static str);

const PRESENT: u64 = 1;
const DATED: u64 = 2;
const EARLIER: u64 = 4;
const VERSION_SHIFT: u32 = 3;

impl Row {
    /// Appends the row's bytes, posted under its places.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.encode_posted(&self.places(), out);
    }

    /// Appends the row's bytes, posted under times that are not after its places.
    pub fn encode_posted(&self, posted: &Places, out: &mut Vec<u8>) {
        let places = self.places();
        let earlier = (0..3).filter(|i| posted[*i] < places[*i]).fold(0u8, |all, i| all | 1 << i);
        let flag = |is: bool, flag: u64| if is { flag } else { 0 };
        let head = u64::from(self.version) << VERSION_SHIFT
            | flag(earlier != 0, EARLIER)
            | flag(self.touched != UNDATED, DATED)
            | flag(self.value.is_some(), PRESENT);
        put_varint(out, head);
        if self.touched != UNDATED {
            out.extend_from_slice(&self.touched.to_le_bytes());
        }
        if earlier != 0 {
            out.push(earlier);
            for i in (0..3).filter(|i| earlier & 1 << i != 0) {
                out.extend_from_slice(&posted[i].to_le_bytes());
            }
        }
        put_varint(out, self.timers.len() as u64);
        for timer in self.timers.iter() {
            out.push(timer.domain as u8);
            put_varint(out, timer.tag);
            out.extend_from_slice(&timer.time.to_le_bytes());
        }
        out.extend_from_slice(self.value.as_deref().unwrap_or_default());
    }

    /// Reads a row.
    ///
    /// # Errors
    /// [`Corrupt`] says what was expected.
    pub fn decode(bytes: &[u8]) -> Result<Self, Corrupt> {
        Ok(Self::decode_posted(bytes)?.0)
    }

    /// Reads a row, and what it is posted under.
    ///
    /// # Errors
    /// [`Corrupt`] says what was expected.
    pub fn decode_posted(bytes: &[u8]) -> Result<(Self, Places), Corrupt> {
        let mut timers = Timers::None;
        let parts = Parts::read(bytes, |timer| timers.push(timer))?;
        let Parts { version, touched, value, .. } = parts;
        let value = value.map(Into::into);
        Ok((Self { version, touched, timers, value }, parts.posted))
    }

    /// Where the row is in the indexes.
    pub fn places(&self) -> Places {
        let mut places = [NEVER, NEVER, dated(self.touched)];
        for timer in self.timers.iter() {
            let place = &mut places[timer.domain as usize];
            *place = timer.time.min(*place);
        }
        places
    }

    /// The earliest timer of a domain, or [`NEVER`] where there is none.
    pub fn next(&self, domain: TimeDomain) -> i64 {
        let times = self.timers.iter().filter(|t| t.domain == domain).map(|t| t.time);
        times.min().unwrap_or(NEVER)
    }
}

/// What the bytes of a row say it is posted under.
///
/// # Errors
/// [`Corrupt`] when they are no row.
pub fn posted(bytes: &[u8]) -> Result<Places, Corrupt> {
    Ok(Parts::read(bytes, |_| {})?.posted)
}

fn dated(touched: i64) -> i64 {
    if touched == UNDATED { NEVER } else { touched }
}

/// What the bytes of a row hold, besides its timers.
struct Parts<'a> {
    version: u32,
    touched: i64,
    posted: Places,
    value: Option<&'a [u8]>,
}

impl<'a> Parts<'a> {
    fn read(mut bytes: &'a [u8], mut each: impl FnMut(Timer)) -> Result<Self, Corrupt> {
        let b = &mut bytes;
        let head = varint(b)?;
        let version = u32::try_from(head >> VERSION_SHIFT);
        let version = version.map_err(|_| Corrupt("a version below 2^32"))?;
        let touched = if head & DATED == 0 { UNDATED } else { i64::from_le_bytes(array(b)?) };
        let mut posted = [NEVER; 3];
        if head & EARLIER != 0 {
            let [earlier] = array(b)?;
            if earlier == 0 || earlier > 7 {
                return Err(Corrupt("one to three of three indexes"));
            }
            for i in (0..3).filter(|i| earlier & 1 << i != 0) {
                posted[i] = i64::from_le_bytes(array(b)?);
            }
        }
        let mut places = [NEVER, NEVER, dated(touched)];
        for _ in 0..varint(b)? {
            let [domain] = array(b)?;
            let domain = match domain {
                0 => TimeDomain::EventTime,
                1 => TimeDomain::ProcessingTime,
                _ => return Err(Corrupt("a time domain of 0 or 1")),
            };
            let timer = Timer { domain, tag: varint(b)?, time: i64::from_le_bytes(array(b)?) };
            places[domain as usize] = timer.time.min(places[domain as usize]);
            each(timer);
        }
        for (posted, place) in posted.iter_mut().zip(places) {
            if *posted != NEVER && *posted >= place {
                return Err(Corrupt("a posting before the place that it is for"));
            }
            *posted = place.min(*posted);
        }
        let value = match (head & PRESENT != 0, b.is_empty()) {
            (true, _) => Some(*b),
            (false, true) => None,
            _ => return Err(Corrupt("no bytes behind a row without value")),
        };
        Ok(Self { version, touched, posted, value })
    }
}

/// The store key of a key's row.
pub fn row_key(stage: u16, key: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&stage.to_be_bytes());
    out.push(KIND_ROW);
    out.extend_from_slice(key);
}

/// What the store keys of the entries of one map of one key begin with.
pub fn map_prefix(stage: u16, map: u16, key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(9 + key.len() + 16);
    out.extend_from_slice(&stage.to_be_bytes());
    out.push(KIND_MAP);
    out.extend_from_slice(&map.to_be_bytes());
    out.extend_from_slice(&(key.len() as u32).to_be_bytes());
    out.extend_from_slice(key);
    out
}

/// The least byte string that is greater than every one that begins with `prefix`; none when there
/// is no such string.
pub fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return Some(end);
        }
    }
    None
}

/// What a store key names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name<'a> {
    /// The row of a key.
    Row {
        /// The stage's number.
        stage: u16,
        /// The key.
        key: &'a [u8],
    },
    /// An entry of a map.
    Map {
        /// The stage's number.
        stage: u16,
        /// The map's index.
        map: u16,
        /// The key.
        key: &'a [u8],
        /// The entry key.
        entry: &'a [u8],
    },
}

/// Reads a store key.
///
/// # Errors
/// [`Corrupt`] says what was expected.
pub fn name(mut bytes: &[u8]) -> Result<Name<'_>, Corrupt> {
    let b = &mut bytes;
    let stage = u16::from_be_bytes(array(b)?);
    let [kind] = array(b)?;
    match kind {
        KIND_ROW => Ok(Name::Row { stage, key: b }),
        KIND_MAP => {
            let map = u16::from_be_bytes(array(b)?);
            let len = u32::from_be_bytes(array(b)?) as usize;
            if b.len() < len {
                return Err(Corrupt("a key as long as its length says"));
            }
            let (key, entry) = b.split_at(len);
            Ok(Name::Map { stage, map, key, entry })
        }
        _ => Err(Corrupt("a kind of 0 or 1")),
    }
}

/// Appends a LEB128 number.
pub fn put_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Reads a LEB128 number off the front.
///
/// # Errors
/// [`Corrupt`] when it is cut off or passes 64 bits.
pub fn varint(bytes: &mut &[u8]) -> Result<u64, Corrupt> {
    let mut n = 0;
    for shift in (0..64).step_by(7) {
        let [byte] = array(bytes)?;
        n |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(n);
        }
    }
    Err(Corrupt("a number of at most 64 bits"))
}

fn array<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], Corrupt> {
    let (head, rest) = bytes.split_first_chunk().ok_or(Corrupt("more bytes"))?;
    *bytes = rest;
    Ok(*head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn timer() -> impl Strategy<Value = Timer> {
        (any::<bool>(), any::<u64>(), any::<i64>()).prop_map(|(p, tag, time)| Timer {
            domain: if p { TimeDomain::ProcessingTime } else { TimeDomain::EventTime },
            tag,
            time,
        })
    }

    proptest! {
        #[test]
        fn a_row_comes_back_as_it_was(
            version in any::<u32>(), touched in any::<i64>(),
            before in proptest::array::uniform3(0..3i64),
            timers in proptest::collection::vec(timer(), 0..4),
            value in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20))) {
            let timers = timers.into_iter().collect();
            let value = value.map(Vec::into_boxed_slice);
            let row = Row { version, touched, timers, value };
            let mut posted = row.places();
            for (posted, before) in posted.iter_mut().zip(before) {
                *posted = if *posted == NEVER { NEVER } else { posted.saturating_sub(before) };
            }
            let mut bytes = Vec::new();
            row.encode_posted(&posted, &mut bytes);
            prop_assert_eq!(Row::decode_posted(&bytes), Ok((row.clone(), posted)));
            prop_assert_eq!(super::posted(&bytes), Ok(posted));
            let fixed = bytes.len() - row.value.as_ref().map_or(0, |v| v.len());
            for cut in 0..fixed {
                prop_assert!(Row::decode(&bytes[..cut]).is_err());
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = Row::decode(&bytes);
            let _ = name(&bytes);
        }

        #[test]
        fn store_keys_name_what_they_were_made_of(
            stage in any::<u16>(), map in any::<u16>(),
            key in proptest::collection::vec(any::<u8>(), 0..6),
            entry in proptest::collection::vec(any::<u8>(), 0..6)) {
            let mut row = Vec::new();
            row_key(stage, &key, &mut row);
            prop_assert_eq!(name(&row), Ok(Name::Row { stage, key: &key }));
            let prefix = map_prefix(stage, map, &key);
            let full = [prefix.as_slice(), &entry].concat();
            prop_assert_eq!(name(&full), Ok(Name::Map { stage, map, key: &key, entry: &entry }));
            if let Some(end) = after_prefix(&prefix) {
                prop_assert!(full < end && prefix < end);
            }
        }
    }
}
