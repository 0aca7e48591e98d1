//! The records that go into a harness and those that come out.

use serde::de::DeserializeOwned;
use wasmill_abi::RejectionKind;
use wasmill_core::flow::Flow;

/// A record that comes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emission {
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value; none for a tombstone.
    pub value: Option<Vec<u8>>,
    /// Its event time, in ms.
    pub timestamp: i64,
    /// The watermark that later stages see it at.
    pub clock: i64,
    /// Its headers.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Emission {
    /// The value as text.
    ///
    /// # Panics
    /// When it is a tombstone.
    pub fn text(&self) -> String {
        let value = self.value.as_ref().expect("the emission is a tombstone");
        String::from_utf8_lossy(value).into_owned()
    }

    /// The value as JSON.
    ///
    /// # Panics
    /// When it is not such JSON.
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_str(&self.text()).expect("the emission is JSON of the type asked for")
    }

    /// The last header of a name, as text.
    pub fn header(&self, name: &str) -> Option<String> {
        let found = self.headers.iter().rev().find(|(n, _)| n == name)?;
        found.1.as_ref().map(|v| String::from_utf8_lossy(v).into_owned())
    }

    /// The same record on its way into a next stage, at the watermark that it went out with.
    pub fn onward(&self) -> Piped {
        Piped {
            key: self.key.clone(),
            value: self.value.clone(),
            headers: self.headers.clone(),
            watermark: Some(self.clock),
            ..Piped::new("", self.timestamp, "")
        }
    }
}

/// A record that was rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The channel.
    pub kind: RejectionKind,
    /// Why.
    pub reason: String,
    /// The record as it came, with the headers that say where it failed.
    pub record: Emission,
}

/// A record to pipe in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piped {
    /// The key; none for a record without one, which no keyed plugin gets to see.
    pub key: Option<Vec<u8>>,
    /// The event time, in ms.
    pub timestamp: i64,
    /// The value; none for a tombstone.
    pub value: Option<Vec<u8>>,
    /// The index of the input port.
    pub input: u8,
    /// The headers, in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// The offset in its partition; none for the one after that of the record before, from 0.
    pub offset: Option<i64>,
    /// The watermark that it carries, as a record of a topic within the pipeline does: it holds
    /// before the record, and the record's event time moves nothing. None where the watermark
    /// follows the event times.
    pub watermark: Option<i64>,
}

impl Piped {
    /// A record for input 0.
    pub fn new(key: impl AsRef<[u8]>, timestamp: i64, value: impl AsRef<[u8]>) -> Self {
        Self { value: Some(value.as_ref().to_vec()), ..Self::tombstone(key, timestamp) }
    }

    /// A record with a key and no value, for input 0.
    pub fn tombstone(key: impl AsRef<[u8]>, timestamp: i64) -> Self {
        Self {
            key: Some(key.as_ref().to_vec()),
            timestamp,
            value: None,
            input: 0,
            headers: Vec::new(),
            offset: None,
            watermark: None,
        }
    }

    /// A record with a value and no key, for input 0.
    pub fn keyless(timestamp: i64, value: impl AsRef<[u8]>) -> Self {
        Self { key: None, ..Self::new("", timestamp, value) }
    }

    /// The same record for another input port, by its index.
    pub fn into_input(self, input: u8) -> Self {
        Self { input, ..self }
    }

    /// The same record with one more header.
    pub fn with_header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.into(), Some(value.as_ref().to_vec())));
        self
    }

    /// The same record, read at an offset.
    pub fn at_offset(self, offset: i64) -> Self {
        Self { offset: Some(offset), ..self }
    }

    /// The same record, carrying a watermark in ms.
    pub fn at_watermark(self, watermark: i64) -> Self {
        Self { watermark: Some(watermark), ..self }
    }
}

/// The records of a flow, one by one.
pub(super) fn emissions(flow: &Flow) -> Vec<Emission> {
    let headers = |i: usize| match &flow.headers {
        None => Vec::new(),
        Some(headers) => headers
            .row(i)
            .map(|(n, v)| (String::from_utf8_lossy(n).into_owned(), v.map(<[u8]>::to_vec)))
            .collect(),
    };
    (0..flow.len())
        .map(|i| Emission {
            key: flow.keys.get(i).map(<[u8]>::to_vec),
            value: flow.values.get(i).map(<[u8]>::to_vec),
            timestamp: flow.timestamps[i],
            clock: flow.clocks[i],
            headers: headers(i),
        })
        .collect()
}
