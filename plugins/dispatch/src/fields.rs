//! Finds the fields that rules ask for, all in one pass over the record. Invariant: a record is read
//! as JSON only when a rule asks for a field of it, and then to its end.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use wasmill_sdk::prelude::{Record, Rejection};

use crate::path::Path;
use crate::value::{Scalars, Value};

/// The fields that rules ask for.
#[derive(Debug, Default)]
pub struct Fields {
    paths: Vec<(String, Path)>,
    root: Node,
}

/// A place in the JSON.
#[derive(Debug, Default)]
struct Node {
    /// The field that is here.
    field: Option<usize>,
    /// Places further in, by the names of members; elements have their index for a name.
    children: Vec<(String, Node)>,
}

impl Fields {
    /// The index of a field; a new one when nobody has asked for it yet.
    ///
    /// # Errors
    /// A sentence when `name` is no path.
    pub fn index(&mut self, name: &str) -> Result<usize, String> {
        let path = Path::parse(name)?;
        if let Some(known) = self.paths.iter().position(|(_, other)| *other == path) {
            return Ok(known);
        }
        let index = self.paths.len();
        if let Path::Json(steps) = &path {
            let mut node = &mut self.root;
            for step in steps {
                let known = node.children.iter().position(|(name, _)| name == step);
                let at = known.unwrap_or_else(|| {
                    node.children.push((step.clone(), Node::default()));
                    node.children.len() - 1
                });
                node = &mut node.children[at].1;
            }
            node.field = Some(index);
        }
        self.paths.push((name.to_owned(), path));
        Ok(index)
    }

    /// The fields as the rules name them.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.paths.iter().map(|(name, _)| name.as_str())
    }

    /// The values of all fields in a record, by their index.
    ///
    /// # Errors
    /// A malformed [`Rejection`] when a rule asks for a field of the JSON and there is none.
    pub fn find<'a>(&self, record: &Record<'a>) -> Result<Vec<Value<'a>>, Rejection> {
        let mut found = vec![Value::Absent; self.paths.len()];
        if !self.root.children.is_empty() {
            let mut json = serde_json::Deserializer::from_slice(record.bytes()?);
            Place { node: &self.root, found: &mut found }.deserialize(&mut json)?;
            json.end()?;
        }
        for (value, (_, path)) in found.iter_mut().zip(&self.paths) {
            match path {
                Path::Key => {
                    if let Some(key) = record.key() {
                        *value = Value::Text(String::from_utf8_lossy(key));
                    }
                }
                Path::Timestamp => *value = Value::Whole(record.timestamp().into()),
                Path::Json(_) => {}
            }
        }
        Ok(found)
    }
}

/// Reads what is at a place.
struct Place<'n, 'f, 'de> {
    node: &'n Node,
    found: &'f mut [Value<'de>],
}

impl<'de> Place<'_, '_, 'de> {
    fn keep(self, value: Value<'de>) {
        if let Some(field) = self.node.field {
            self.found[field] = value;
        }
    }

    /// Forgets what an earlier member of the same name had: the last one counts.
    fn forget(node: &Node, found: &mut [Value<'de>]) {
        if let Some(field) = node.field {
            found[field] = Value::Absent;
        }
        for (_, child) in &node.children {
            Self::forget(child, found);
        }
    }
}

impl<'de> DeserializeSeed<'de> for Place<'_, '_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.node.children.is_empty() {
            self.keep(deserializer.deserialize_any(Scalars)?);
            return Ok(());
        }
        Self::forget(self.node, self.found);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Place<'_, '_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<(), E> {
        self.keep(Scalars.visit_bool::<E>(flag)?);
        Ok(())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        self.keep(Scalars.visit_i64::<E>(number)?);
        Ok(())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        self.keep(Scalars.visit_u64::<E>(number)?);
        Ok(())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        self.keep(Scalars.visit_f64::<E>(number)?);
        Ok(())
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<(), E> {
        self.keep(Scalars.visit_borrowed_str::<E>(text)?);
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.keep(Scalars.visit_str::<E>(text)?);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<Name<'de>>()? {
            match self.node.children.iter().find(|(child, _)| *child == *name.0) {
                Some((_, node)) => map.next_value_seed(Place { node, found: self.found })?,
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        self.keep(Value::Object);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut list = Vec::new();
        for i in 0.. {
            let name = i.to_string();
            match self.node.children.iter().find(|(child, _)| *child == name) {
                Some((_, node)) => {
                    if seq.next_element_seed(Place { node, found: self.found })?.is_none() {
                        break;
                    }
                    let value = node.field.map(|field| self.found[field].clone());
                    list.push(value.unwrap_or(Value::Object));
                }
                None => match seq.next_element()? {
                    Some(value) => list.push(value),
                    None => break,
                },
            }
        }
        self.keep(Value::List(list));
        Ok(())
    }
}

/// The name of a member, borrowed where the JSON has no escapes in it.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] std::borrow::Cow<'a, str>);
