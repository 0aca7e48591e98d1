//! Records on their way through a task, as columns.

use wasmill_abi::{Column, Headers};

/// The row of a record that comes from no input record: a timer made it.
pub const NO_ROW: u32 = u32::MAX;

/// Records in order, with the event-time clock that holds before each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flow {
    /// Event times, in ms.
    pub timestamps: Vec<i64>,
    /// The watermark before each record. Never decreases within a flow.
    pub clocks: Vec<i64>,
    /// The input port of each record; empty when all come by port 0.
    pub ports: Vec<u8>,
    /// Keys, null where a record has none.
    pub keys: Column,
    /// Values.
    pub values: Column,
    /// Headers; none when no record has any.
    pub headers: Option<Headers>,
    /// The row of the step's input that each record comes from, or [`NO_ROW`].
    pub rows: Vec<u32>,
}

impl Flow {
    /// The number of records.
    #[inline]
    pub fn len(&self) -> usize {
        self.timestamps.len()
    }

    /// Whether there is no record.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.timestamps.is_empty()
    }

    /// The records with these indexes, in this order.
    ///
    /// # Panics
    /// When an index is out of range.
    pub fn gather(&self, indexes: &[u32]) -> Self {
        let at = |i: &u32| *i as usize;
        Self {
            timestamps: indexes.iter().map(|i| self.timestamps[at(i)]).collect(),
            clocks: indexes.iter().map(|i| self.clocks[at(i)]).collect(),
            ports: if self.ports.is_empty() {
                Vec::new()
            } else {
                indexes.iter().map(|i| self.ports[at(i)]).collect()
            },
            keys: self.keys.gather(indexes),
            values: self.values.gather(indexes),
            headers: self.headers.as_ref().map(|headers| {
                let mut gathered = Headers::default();
                for i in indexes {
                    gathered.push_row_of(headers, at(i));
                }
                gathered
            }),
            rows: indexes.iter().map(|i| self.rows[at(i)]).collect(),
        }
    }

    /// The records of a range, copied.
    ///
    /// # Panics
    /// When the range is out of bounds.
    pub fn slice(&self, range: std::ops::Range<usize>) -> Self {
        if range == (0..self.len()) {
            return self.clone();
        }
        let column = |of: &Column| {
            let mut part = Column::default();
            part.extend_range(of, range.clone());
            part
        };
        Self {
            timestamps: self.timestamps[range.clone()].to_vec(),
            clocks: self.clocks[range.clone()].to_vec(),
            ports: if self.ports.is_empty() {
                Vec::new()
            } else {
                self.ports[range.clone()].to_vec()
            },
            keys: column(&self.keys),
            values: column(&self.values),
            headers: self.headers.as_ref().map(|headers| {
                let mut part = Headers::default();
                range.clone().for_each(|i| part.push_row_of(headers, i));
                part
            }),
            rows: self.rows[range.clone()].to_vec(),
        }
    }

    /// Appends the records of another flow.
    pub fn append(&mut self, other: &Self) {
        let (n, m) = (self.len(), other.len());
        if !other.ports.is_empty() || !self.ports.is_empty() {
            self.ports.resize(n, 0);
            self.ports.extend_from_slice(&other.ports);
            self.ports.resize(n + m, 0);
        }
        if other.headers.is_some() || self.headers.is_some() {
            let headers = self.headers.get_or_insert_with(Headers::default);
            headers.ends.resize(n, 0);
            for i in 0..m {
                match &other.headers {
                    Some(others) => headers.push_row_of(others, i),
                    None => headers.close_row(),
                }
            }
        }
        self.timestamps.extend_from_slice(&other.timestamps);
        self.clocks.extend_from_slice(&other.clocks);
        self.keys.extend_range(&other.keys, 0..m);
        self.values.extend_range(&other.values, 0..m);
        self.rows.extend_from_slice(&other.rows);
    }

    /// Puts records into the order of their clocks, as if the input had come record by record.
    /// Stable, and free where it is so already.
    pub fn into_order(self) -> Self {
        if (1..self.len()).all(|i| self.clocks[i - 1] <= self.clocks[i]) {
            return self;
        }
        let mut order: Vec<u32> = (0..self.len() as u32).collect();
        order.sort_by_key(|i| self.clocks[*i as usize]);
        self.gather(&order)
    }

    /// Merges flows that came to a stage by several edges in one step: by clock, then input row,
    /// then edge.
    pub fn merge(flows: Vec<Self>) -> Self {
        let mut all = Self::default();
        for flow in &flows {
            all.append(flow);
        }
        if flows.iter().filter(|f| !f.is_empty()).count() < 2 {
            return all;
        }
        let mut order: Vec<u32> = (0..all.len() as u32).collect();
        order.sort_by_key(|i| (all.clocks[*i as usize], all.rows[*i as usize]));
        all.gather(&order)
    }
}

/// Where the records of a step were read from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Source {
    /// The topic, or the name of the source.
    pub topic: String,
    /// The partition, from 0.
    pub partition: u32,
    /// The offset of each input row.
    pub offsets: Vec<i64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(rows: &[(i64, u32, &str)]) -> Flow {
        Flow {
            timestamps: rows.iter().map(|r| r.0).collect(),
            clocks: rows.iter().map(|r| r.0).collect(),
            keys: rows.iter().map(|r| r.2.as_bytes()).collect(),
            values: rows.iter().map(|_| None).collect(),
            rows: rows.iter().map(|r| r.1).collect(),
            ..Flow::default()
        }
    }

    #[test]
    fn flows_of_one_step_merge_as_if_records_had_come_one_by_one() {
        let a = flow(&[(1, 0, "a0"), (1, 2, "a2"), (5, 3, "a3")]);
        let b = flow(&[(1, 0, "b0"), (2, NO_ROW, "bt"), (5, 3, "b3")]);
        let merged = Flow::merge(vec![a, b]);
        let keys: Vec<_> = merged.keys.iter().map(|k| k.unwrap().to_vec()).collect();
        assert_eq!(keys, [&b"a0"[..], b"b0", b"a2", b"bt", b"a3", b"b3"]);
    }

    #[test]
    fn appending_keeps_ports_and_headers_in_line() {
        let mut a = flow(&[(1, 0, "a")]);
        let mut b = flow(&[(2, 1, "b")]);
        b.ports = vec![3];
        let mut headers = Headers::default();
        headers.add("h", Some(b"v"));
        headers.close_row();
        b.headers = Some(headers);
        a.append(&b);
        a.append(&flow(&[(3, 2, "c")]));
        assert_eq!(a.ports, [0, 3, 0]);
        let headers = a.headers.unwrap();
        assert_eq!(headers.ends, [0, 1, 1]);
        assert_eq!(a.keys.len(), 3);
    }
}
