//! The map state of the keys of one call: what `wit/v0.1/map-state.wit` imports.

use crate::Column;

/// Why a map call was refused; nothing of it takes effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MapError {
    /// There is no map with this index.
    NoSuchMap(u16),
    /// The batch has no key with this slot.
    NoSuchSlot(u32),
    /// Columns differ in length, or one is not well formed.
    Malformed(String),
    /// A limit of the stage would be passed: its name and its value.
    Limit(String, u64),
    /// The state store failed.
    Store(String),
}

impl std::fmt::Display for MapError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoSuchMap(map) => write!(f, "there is no map state {map}"),
            Self::NoSuchSlot(slot) => write!(f, "the batch has no key in slot {slot}"),
            Self::Malformed(why) => write!(f, "malformed map call: {why}"),
            Self::Limit(name, value) => write!(f, "the limit {name} = {value} would be passed"),
            Self::Store(why) => write!(f, "the state store failed: {why}"),
        }
    }
}

impl std::error::Error for MapError {}

/// A range of entry keys, compared as unsigned bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Range {
    /// The first entry key, inclusive; none for the beginning.
    pub start: Option<Vec<u8>>,
    /// The end, exclusive; none for no end.
    pub end: Option<Vec<u8>>,
}

/// Entries in the order of their keys, or the reverse when asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entries {
    /// The entry keys.
    pub keys: Column,
    /// The values.
    pub values: Column,
    /// Whether more entries may follow.
    pub more: bool,
}

/// The map states of the keys of the batch that is being processed.
pub trait Maps {
    /// Reads entries; null where there is none.
    ///
    /// # Errors
    /// [`MapError`] when an index is out of range, a column is malformed, or the store fails.
    fn get(&mut self, map: u16, slots: &[u32], keys: &Column) -> Result<Column, MapError>;

    /// Writes entries in order; a null value removes.
    ///
    /// # Errors
    /// As [`Maps::get`], and when a limit would be passed.
    fn put(
        &mut self,
        map: u16,
        slots: &[u32],
        keys: &Column,
        values: &Column,
    ) -> Result<(), MapError>;

    /// Removes every entry of the range from the map of one key.
    ///
    /// # Errors
    /// As [`Maps::get`].
    fn delete_range(&mut self, map: u16, slot: u32, range: &Range) -> Result<(), MapError>;

    /// Reads at most `limit` entries of the range.
    ///
    /// # Errors
    /// As [`Maps::get`].
    fn scan(
        &mut self,
        map: u16,
        slot: u32,
        range: &Range,
        limit: u32,
        descending: bool,
    ) -> Result<Entries, MapError>;
}
