//! `dispatch`: routes JSON records to outputs by rules on their fields.
//!
//! Invariant: a record goes out byte for byte as it came in, to every output at most once, or it is
//! rejected.

pub mod config;

mod condition;
mod fields;
mod path;
mod value;

use wasmill_sdk::prelude::*;

use condition::Condition;
use config::{Config, Mode};
use fields::Fields;
use value::Value;

/// The operator.
#[derive(Debug)]
pub struct Dispatch {
    rules: Vec<Rule>,
    fields: Fields,
    outputs: Vec<String>,
    default: Option<usize>,
    mode: Mode,
}

#[derive(Debug)]
struct Rule {
    output: usize,
    when: Condition,
}

impl Stateless for Dispatch {
    type Config = Config;

    fn describe() -> Description {
        Description {
            name: "dispatch".into(),
            ports: Ports { inputs: vec![input()], outputs: Vec::new() },
            config_schema: include_str!("../schema.json").into(),
            ..Description::default()
        }
    }

    fn new(config: Config, _: &Setup) -> Result<Self, ConfigError> {
        let outputs = config.outputs()?;
        let index = |name: &str| {
            outputs.iter().position(|output| output == name).expect("every output is listed")
        };
        let mut fields = Fields::default();
        let mut rules = Vec::new();
        for (i, rule) in config.rules.iter().enumerate() {
            let when = Condition::new(&rule.when, &format!("rules.{i}.when"), &mut fields)?;
            rules.push(Rule { output: index(&rule.to), when });
        }
        let default = config.default.as_deref().map(index);
        Ok(Self { rules, fields, outputs, default, mode: config.mode })
    }

    fn ports(&self) -> Option<Ports> {
        let output = |(i, name): (usize, &String)| {
            let rules = self.rules.iter().filter(|rule| rule.output == i).count();
            let summary = match (rules, self.default == Some(i)) {
                (0, _) => "Records that no rule fits.".to_owned(),
                (n, false) => format!("Records that fit {}.", count(n)),
                (n, true) => format!("Records that fit {}, or none at all.", count(n)),
            };
            OutputPort { name: name.clone(), summary, ..OutputPort::default() }
        };
        Some(Ports {
            inputs: vec![input()],
            outputs: self.outputs.iter().enumerate().map(output).collect(),
        })
    }

    fn process(&self, record: &Record<'_>, out: &mut Emitter<'_>) -> Result<(), Rejection> {
        let found = self.fields.find(record)?;
        let mut sent = 0u64;
        for rule in &self.rules {
            if sent >> rule.output & 1 == 0 && rule.when.holds(&found) {
                send(record, rule.output, out);
                sent |= 1 << rule.output;
                if self.mode == Mode::First {
                    break;
                }
            }
        }
        match self.default {
            _ if sent != 0 => Ok(()),
            Some(output) => {
                send(record, output, out);
                Ok(())
            }
            None => Err(self.unmatched(&found)),
        }
    }
}

impl Dispatch {
    #[cold]
    fn unmatched(&self, found: &[Value<'_>]) -> Rejection {
        const MAX_FIELDS: usize = 4;
        let fields: Vec<String> = self
            .fields
            .names()
            .zip(found)
            .take(MAX_FIELDS)
            .map(|(name, value)| format!("{name} = {value}"))
            .collect();
        Rejection::invalid(format!(
            "none of the {} fits and there is no `default` output; found {}",
            count(self.rules.len()),
            fields.join(", ")
        ))
    }
}

fn input() -> InputPort {
    InputPort { name: "in".into(), summary: "JSON records.".into() }
}

fn count(rules: usize) -> String {
    if rules == 1 { "1 rule".to_owned() } else { format!("{rules} rules") }
}

#[inline]
fn send(record: &Record<'_>, output: usize, out: &mut Emitter<'_>) {
    match record.value() {
        Some(value) => out.to(output).bytes(value),
        None => out.to(output).tombstone(),
    }
}

wasmill_sdk::export!(stateless Dispatch);
