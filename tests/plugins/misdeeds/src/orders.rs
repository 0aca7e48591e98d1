//! Orders that a component carries in its own bytes: what it does before it has a configuration.
//!
//! Invariant: a component as it was built has no orders, and then it does nothing here but answer
//! honestly.

use std::hint::black_box;

use serde::Deserialize;
use wasmill_sdk::abi::{Column, ConfigError, Description, Failure, InputPort, OutputPort, Ports};

use crate::Misdeed;

/// What the orders begin with: JSON follows, and spaces up to [`BYTES`]. A test finds them in the
/// file of the component and writes others there.
pub const MARK: &[u8] = b"orders of this component: ";
/// The length of the orders with their mark, in bytes.
pub const BYTES: usize = 256;

static ORDERS: [u8; BYTES] = {
    let mut bytes = [b' '; BYTES];
    let mut i = 0;
    while i < MARK.len() {
        bytes[i] = MARK[i];
        i += 1;
    }
    bytes
};

/// What a component is told to do.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Orders {
    /// While it describes itself.
    describe: Option<Misdeed>,
    /// To what it says of itself.
    description: Option<Lie>,
    /// To the ports that it describes.
    described: Option<PortForgery>,
    /// While it is configured.
    configure: Option<Misdeed>,
    /// To the ports that it is configured with.
    configured: Option<PortForgery>,
    /// The path at which it refuses its configuration.
    refuse: Option<String>,
    /// How often that path is repeated.
    repeat: usize,
    /// The version of its state, in place of 1. It then reads all that are older.
    state_version: Option<u32>,
    /// While it migrates states.
    migrate: Option<Misdeed>,
    /// To the states that it has migrated.
    migrated: Option<StateForgery>,
}

/// What is wrong with what a component says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Lie {
    /// A summary of 160 MiB.
    Large,
    /// A name that moves the cursor of a terminal.
    Name,
    /// A version of 1 MiB.
    Version,
    /// 65 map states.
    ManyMaps,
}

/// What is wrong with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum PortForgery {
    /// No inputs.
    NoInputs,
    /// No outputs.
    NoOutputs,
    /// 65 outputs.
    ManyOutputs,
    /// Two inputs of the same name.
    InputTwice,
    /// Two outputs of the same name.
    OutputTwice,
    /// Others than the honest ones.
    Others,
    /// Two million inputs.
    Millions,
}

/// What is wrong with migrated states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum StateForgery {
    /// None.
    None,
    /// One too many.
    OneMore,
    /// One that ends beyond the data.
    EndsBeyondData,
    /// One of 160 MiB.
    Large,
    /// A failure with a message.
    Failure,
}

impl Orders {
    /// Those of this component.
    ///
    /// # Panics
    /// When they are no orders: the test is wrong.
    pub fn given() -> Self {
        let text = &black_box(&ORDERS)[MARK.len()..];
        let text = std::str::from_utf8(text).expect("orders are text");
        wasmill_sdk::config::parse(text).unwrap_or_else(|e| panic!("no orders: {text}: {e}"))
    }

    /// Spoils an honest description.
    pub fn describe(&self, mut d: Description) -> Description {
        if let Some(misdeed) = self.describe {
            misdeed.commit();
        }
        match self.description {
            Some(Lie::Large) => d.summary = "x".repeat(160 << 20),
            Some(Lie::Name) => d.name = "evil\u{1b}[2J".into(),
            Some(Lie::Version) => d.version = "1".repeat(1 << 20),
            Some(Lie::ManyMaps) => d.maps = (0..65).map(|i| format!("map-{i}")).collect(),
            None => {}
        }
        if let Some(forgery) = self.described {
            forgery.spoil(&mut d.ports);
        }
        if let Some(version) = self.state_version {
            d.state_version = version;
            d.reads_state_versions = (1..version).collect();
        }
        d
    }

    /// Spoils an honest answer to a configuration; what is to happen first is done in `configure`.
    ///
    /// # Errors
    /// When the configuration is to be refused, or was.
    pub fn configure(
        &self,
        configure: impl FnOnce() -> Result<Ports, ConfigError>,
    ) -> Result<Ports, ConfigError> {
        if let Some(misdeed) = self.configure {
            misdeed.commit();
        }
        if let Some(path) = &self.refuse {
            let path = path.repeat(self.repeat.max(1));
            return Err(ConfigError { path, message: "I won't\u{1b}[2J".into() });
        }
        let mut ports = configure()?;
        if let Some(forgery) = self.configured {
            forgery.spoil(&mut ports);
        }
        Ok(ports)
    }

    /// Migrates states, which are as those of the version before.
    ///
    /// # Errors
    /// When that is the order.
    pub fn migrate(&self, mut states: Column) -> Result<Column, Failure> {
        if let Some(misdeed) = self.migrate {
            misdeed.commit();
        }
        match self.migrated {
            None => {}
            Some(StateForgery::None) => states = Column::default(),
            Some(StateForgery::OneMore) => states.push(b"one more"),
            Some(StateForgery::EndsBeyondData) => states.ends[0] += 1_000,
            Some(StateForgery::Large) => {
                states = Column { data: vec![0; 160 << 20], ..Column::default() };
                states.close();
            }
            Some(StateForgery::Failure) => {
                return Err(Failure { message: "I can't read my own writing".into() });
            }
        }
        Ok(states)
    }
}

impl PortForgery {
    fn spoil(self, ports: &mut Ports) {
        let input = |name: &str| InputPort { name: name.into(), ..InputPort::default() };
        let output = |name: String| OutputPort { name, ..OutputPort::default() };
        match self {
            Self::NoInputs => ports.inputs.clear(),
            Self::NoOutputs => ports.outputs.clear(),
            Self::ManyOutputs => ports.outputs = (0..65).map(|i| output(format!("{i}"))).collect(),
            Self::InputTwice => ports.inputs = vec![input("twin"), input("twin")],
            Self::OutputTwice => {
                ports.outputs = vec![output("twin".into()), output("twin".into())];
            }
            Self::Others => {
                ports.inputs = vec![input("left"), input("right")];
                ports.outputs = vec![output("other".into())];
            }
            Self::Millions => ports.inputs = vec![InputPort::default(); 2_000_000],
        }
    }
}

/// What both kinds of component export alike: `component!(Type, describe_KIND, configure_KIND)`, in a
/// module that has the `lifecycle` interface and `convert` of its kind. By hand, since
/// `wasmill_sdk::export!` would answer honestly.
#[macro_export]
macro_rules! component {
    ($operator:ty, $describe:ident, $configure:ident) => {
        static OPERATOR: wasmill_sdk::export::Holder<$operator> =
            wasmill_sdk::export::Holder::new();

        struct Component;

        impl lifecycle::Guest for Component {
            fn describe() -> lifecycle::Description {
                let about = wasmill_sdk::export::Crate {
                    name: env!("CARGO_PKG_NAME"),
                    version: env!("CARGO_PKG_VERSION"),
                    summary: env!("CARGO_PKG_DESCRIPTION"),
                };
                let honest = wasmill_sdk::export::$describe::<$operator>(about);
                convert::description($crate::Orders::given().describe(honest))
            }

            fn configure(
                context: lifecycle::Context,
                config: String,
                resources: Vec<lifecycle::ResourceFile>,
            ) -> Result<lifecycle::Ports, lifecycle::ConfigError> {
                wasmill_sdk::log::connect(convert::log);
                let (context, resources) = convert::setup(context, resources);
                $crate::Orders::given()
                    .configure(|| {
                        wasmill_sdk::export::$configure(&OPERATOR, context, &config, resources)
                    })
                    .map(convert::ports)
                    .map_err(convert::config_error)
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_as_it_was_built_has_no_orders() {
        let orders = Orders::given();
        let honest = Description { name: "honest".into(), ..Description::default() };
        assert_eq!(orders.describe(honest.clone()), honest);
        assert_eq!(orders.configure(|| Ok(Ports::default())), Ok(Ports::default()));
        let states: Column = [b"a".as_slice(), b"b"].into_iter().collect();
        assert_eq!(orders.migrate(states.clone()), Ok(states));
    }
}
