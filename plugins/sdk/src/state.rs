//! The value state of a key.

use std::ops::{Deref, DerefMut};

use serde::de::DeserializeOwned;
use wasmill_abi::Failure;

/// The value state of the current key.
///
/// Reading gives the state, or its default where there is none yet. Any mutable access counts as a
/// change and is written back once at the end of the batch.
#[derive(Debug)]
pub struct State<S> {
    value: S,
    exists: bool,
    changed: bool,
}

impl<S: Default> State<S> {
    /// The state of a key: `value`, or none yet.
    pub fn new(value: Option<S>) -> Self {
        let exists = value.is_some();
        Self { value: value.unwrap_or_default(), exists, changed: false }
    }

    /// Whether the key has a state.
    pub fn exists(&self) -> bool {
        self.exists
    }

    /// Removes the state; the next read gives the default.
    pub fn clear(&mut self) {
        self.changed |= self.exists;
        self.exists = false;
        self.value = S::default();
    }

    /// Whether there is something to write back.
    pub(crate) fn changed(&self) -> bool {
        self.changed
    }

    pub(crate) fn value(&self) -> Option<&S> {
        self.exists.then_some(&self.value)
    }
}

/// Reads a state from its compact form, for [`Keyed::migrate`](crate::keyed::Keyed::migrate).
///
/// # Errors
/// A [`Failure`] when the bytes are no `S`.
pub fn decode<S: DeserializeOwned>(bytes: &[u8]) -> Result<S, Failure> {
    postcard::from_bytes(bytes).map_err(|e| Failure {
        message: format!("the state can't be read as {}: {e}", std::any::type_name::<S>()),
    })
}

impl<S> Deref for State<S> {
    type Target = S;
    #[inline]
    fn deref(&self) -> &S {
        &self.value
    }
}

impl<S> DerefMut for State<S> {
    #[inline]
    fn deref_mut(&mut self) -> &mut S {
        self.changed = true;
        self.exists = true;
        &mut self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_state_is_read_and_what_is_none_is_a_failure_that_names_the_type() {
        let bytes = postcard::to_stdvec(&(7u64, "seven")).unwrap();
        assert_eq!(decode::<(u64, String)>(&bytes).unwrap(), (7, "seven".to_owned()));
        assert!(decode::<String>(&[9]).unwrap_err().message.contains("String"));
    }
}
