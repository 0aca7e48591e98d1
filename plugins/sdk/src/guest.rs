//! The component side of [`export!`](crate::export!).

pub use wasmill_bindings_keyed as keyed;
pub use wasmill_bindings_stateless as stateless;

/// The body of [`export!`](crate::export!) on wasm.
#[doc(hidden)]
#[macro_export]
macro_rules! __export_guest {
    (stateless $operator:ty) => {
        use $crate::export;
        use $crate::guest::stateless::convert;
        use $crate::guest::stateless::exports::wasmill::plugin::{lifecycle, stateless};

        $crate::__export_lifecycle!($operator, describe_stateless, configure_stateless);

        impl stateless::Guest for Component {
            fn process(batch: stateless::Batch) -> Result<stateless::Reply, stateless::Failure> {
                $crate::stateless::run(OPERATOR.get(), &convert::stateless_batch(batch))
                    .map(convert::stateless_reply)
                    .map_err(convert::failure)
            }
        }

        $crate::guest::stateless::export!(Component with_types_in $crate::guest::stateless);
    };
    (keyed $operator:ty) => {
        use $crate::export;
        use $crate::guest::keyed::convert;
        use $crate::guest::keyed::exports::wasmill::plugin::{keyed, lifecycle, migration};

        $crate::__export_lifecycle!($operator, describe_keyed, configure_keyed);

        impl keyed::Guest for Component {
            fn process(batch: keyed::Batch) -> Result<keyed::Reply, keyed::Failure> {
                let maps = &mut $crate::guest::keyed::maps::HostMaps;
                $crate::keyed::run(OPERATOR.get(), &convert::keyed_batch(batch), maps)
                    .map(convert::keyed_reply)
                    .map_err(convert::failure)
            }
        }

        impl migration::Guest for Component {
            fn migrate(
                old_version: u32,
                states: migration::Column,
            ) -> Result<migration::Column, migration::Failure> {
                $crate::keyed::migrate::<$operator>(old_version, &convert::column_in(states))
                    .map(convert::column_out)
                    .map_err(convert::failure)
            }
        }

        $crate::guest::keyed::export!(Component with_types_in $crate::guest::keyed);
    };
}

/// What both worlds export alike.
#[doc(hidden)]
#[macro_export]
macro_rules! __export_lifecycle {
    ($operator:ty, $describe:ident, $configure:ident) => {
        impl lifecycle::Guest for Component {
            fn describe() -> lifecycle::Description {
                convert::description(export::$describe::<$operator>(ABOUT))
            }
            fn configure(
                context: lifecycle::Context,
                config: String,
                resources: Vec<lifecycle::ResourceFile>,
            ) -> Result<lifecycle::Ports, lifecycle::ConfigError> {
                $crate::log::connect(convert::log);
                let (context, resources) = convert::setup(context, resources);
                export::$configure(&OPERATOR, context, &config, resources)
                    .map(convert::ports)
                    .map_err(convert::config_error)
            }
        }
    };
}
