//! `enrich`: adds columns of a reference table and derived fields to JSON records.
//!
//! New members go to the end of the object; every other byte of it stays as it is. With `envelope`
//! they go into the metadata around the record instead, which is then untouched. Invariant: what goes
//! out is valid JSON in which no name that was added occurs twice.

pub mod config;

mod additions;
mod calendar;
mod derive;
mod envelope;
mod object;
mod source;
mod table;
mod url;

use std::borrow::Cow;

use wasmill_sdk::config::error;
use wasmill_sdk::prelude::*;

use additions::Additions;
use config::{Config, OnConflict, OnMissing};
use derive::Derived;
use envelope::Envelope;
use object::Object;
use source::Source;
use table::Table;

/// The operator.
#[derive(Debug)]
pub struct Enrich {
    lookup: Option<Lookup>,
    derived: Vec<Derived>,
    on_missing: OnMissing,
    on_conflict: OnConflict,
    envelope: Option<Envelope>,
}

/// Where rows are looked up, and by what.
#[derive(Debug)]
struct Lookup {
    resource: String,
    table: Table,
    key: Source,
    /// The derived field that the key names.
    derived: Option<usize>,
}

impl Stateless for Enrich {
    type Config = Config;

    fn describe() -> Description {
        Description {
            name: "enrich".into(),
            ports: Ports {
                inputs: vec![InputPort { name: "in".into(), summary: "JSON records.".into() }],
                outputs: vec![OutputPort {
                    name: "out".into(),
                    summary: "The records with what was added to them.".into(),
                    ..OutputPort::default()
                }],
            },
            config_schema: include_str!("../schema.json").into(),
            wants_origins: true,
            ..Description::default()
        }
    }

    fn new(config: Config, setup: &Setup) -> Result<Self, ConfigError> {
        if config.table.is_none() && config.derive.is_empty() && !config.envelope {
            return Err(error("", "there is nothing to do; set table, derive or envelope"));
        }
        let mut lookup = lookup(&config, setup)?;
        let mut derived = Vec::new();
        for (i, rule) in config.derive.iter().enumerate() {
            derived.push(Derived::new(rule, &format!("derive.{i}"))?);
        }
        if let Some(lookup) = &mut lookup {
            let is_key = |derived: &Derived| lookup.key.is_member(derived.name());
            lookup.derived = derived.iter().position(is_key);
        }
        let envelope = config.envelope.then(|| Envelope::new(setup));
        let columns = lookup.iter().flat_map(|lookup| lookup.table.names());
        let mut names: Vec<&str> = Vec::new();
        for (path, name) in columns
            .map(|name| ("columns".to_owned(), name))
            .chain(derived.iter().enumerate().map(|(i, d)| (format!("derive.{i}.as"), d.name())))
        {
            if names.contains(&name) {
                return Err(error(path, format!("{name:?} would be added twice")));
            }
            if envelope.is_some() && envelope::NAMES.contains(&name) {
                return Err(error(
                    path,
                    format!(
                        "{name:?} is a name of the envelope's own metadata; set prefix or use another name"
                    ),
                ));
            }
            names.push(name);
        }
        let Config { on_missing, on_conflict, .. } = config;
        Ok(Self { lookup, derived, on_missing, on_conflict, envelope })
    }

    fn process(&self, record: &Record<'_>, out: &mut Emitter<'_>) -> Result<(), Rejection> {
        if let Some(envelope) = &self.envelope {
            let json = record.value().and_then(envelope::json);
            let object = json.and_then(|json| Object::read(json).ok());
            let additions = self.additions(record, object.as_ref())?;
            out.to(0).write(|data| envelope.write(data, record, json, &additions));
            return Ok(());
        }
        let object = Object::read(record.text()?)?;
        let additions = self.additions(record, Some(&object))?;
        if self.on_conflict == OnConflict::Reject
            && let Some(name) = additions.names().find(|name| object.has(name))
        {
            return Err(Rejection::invalid(format!(
                "the record has a field {name:?} already, which would be added (`on-conflict`)"
            )));
        }
        out.to(0).write(|data| object.write_with(data, &additions, self.on_conflict));
        Ok(())
    }
}

impl Enrich {
    fn additions<'e>(
        &'e self,
        record: &Record<'_>,
        object: Option<&Object<'_>>,
    ) -> Result<Additions<'e>, Rejection> {
        let mut additions = Additions::default();
        if let Some(lookup @ Lookup { resource, table, key, .. }) = &self.lookup {
            let mut json = Vec::new();
            let value = self.looked_up(lookup, record, object, &mut json);
            match value.as_deref().and_then(|key| table.row(key)) {
                Some(row) => row.for_each(|(name, json)| match json {
                    Some(json) => additions.add(name, json),
                    None if self.on_missing == OnMissing::Null => additions.add(name, b"null"),
                    None => {}
                }),
                None => match self.on_missing {
                    OnMissing::Pass => {}
                    OnMissing::Null => table.names().for_each(|name| additions.add(name, b"null")),
                    OnMissing::Reject => {
                        return Err(Rejection::invalid(match value {
                            Some(value) => {
                                format!("{key} = {value:?} is not in the table {resource}")
                            }
                            None => format!(
                                "the record has no {key} to look up in the table {resource}"
                            ),
                        }));
                    }
                },
            }
        }
        for derived in &self.derived {
            let there =
                additions.add_with(derived.name(), |json| derived.write(record, object, json));
            if !there && self.on_missing == OnMissing::Null {
                additions.add(derived.name(), b"null");
            }
        }
        Ok(additions)
    }

    /// The text that is looked up: what the field has in the record that goes out.
    fn looked_up<'a>(
        &self,
        lookup: &Lookup,
        record: &Record<'a>,
        object: Option<&Object<'a>>,
        json: &'a mut Vec<u8>,
    ) -> Option<Cow<'a, str>> {
        let kept = |name: &str| {
            let keeps = self.envelope.is_none() && self.on_conflict == OnConflict::Keep;
            keeps && object.is_some_and(|object| object.has(name))
        };
        let derived = lookup.derived.map(|i| &self.derived[i]);
        match derived.filter(|derived| !kept(derived.name())) {
            Some(derived) if derived.write(record, object, json) => {
                source::scalar(std::str::from_utf8(json).expect("JSON is UTF-8"))
            }
            Some(_) if self.on_missing == OnMissing::Null => None,
            _ => lookup.key.text(record, object),
        }
    }
}

fn lookup(config: &Config, setup: &Setup) -> Result<Option<Lookup>, ConfigError> {
    let Some(name) = &config.table else {
        let unused = [
            ("key-field", config.key_field.is_some()),
            ("table-key", config.table_key.is_some()),
            ("columns", config.columns.is_some()),
            ("types", !config.types.is_empty()),
        ];
        return match unused.iter().find(|(_, set)| *set) {
            Some((key, _)) => Err(error(
                *key,
                "it is of no use without table; set table to the name of a resource",
            )),
            None => Ok(None),
        };
    };
    let needed = |key: &str, value: &Option<String>, what: &str| {
        value.clone().ok_or_else(|| error(key, format!("it is missing; a table needs it: {what}")))
    };
    let key =
        needed("key-field", &config.key_field, "the field to look up, a dotted path or $key")?;
    let key = Source::parse(&key).map_err(|message| error("key-field", message))?;
    needed("table-key", &config.table_key, "the column that has the keys")?;
    let table = Table::read(setup.resource(name)?, config)?;
    Ok(Some(Lookup { resource: name.clone(), table, key, derived: None }))
}

wasmill_sdk::export!(stateless Enrich);
