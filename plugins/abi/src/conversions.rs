//! Moves between generated bindings and the types of this crate, for the crates that hold the
//! bindings of one world each. No column is copied on the way.

/// Defines the conversions of everything that both worlds share. To be called in a crate that has
/// the modules `wasmill::plugin::{types, logging}` and `exports::wasmill::plugin::lifecycle` of
/// generated bindings at its root, and depends on this crate as `wasmill_abi`.
// `crate` is meant to be the calling crate: the bindings are there.
#[allow(clippy::crate_in_macro_def)]
#[doc(hidden)]
#[macro_export]
macro_rules! shared_conversions {
    () => {
        use crate::exports::wasmill::plugin::lifecycle as l;
        use crate::wasmill::plugin::logging;
        use crate::wasmill::plugin::types as t;
        use wasmill_abi as abi;

        /// A column that came in.
        pub fn column_in(c: t::Column) -> abi::Column {
            abi::Column { ends: c.ends, data: c.data, validity: c.validity }
        }

        /// A column that goes out.
        pub fn column_out(c: abi::Column) -> t::Column {
            t::Column { ends: c.ends, data: c.data, validity: c.validity }
        }

        /// A failure that goes out.
        pub fn failure(f: abi::Failure) -> t::Failure {
            t::Failure { message: f.message }
        }

        fn headers_in(h: t::Headers) -> abi::Headers {
            abi::Headers { ends: h.ends, names: column_in(h.names), values: column_in(h.values) }
        }

        fn headers_out(h: abi::HeaderChanges) -> t::HeaderChanges {
            t::HeaderChanges {
                dropped: h.dropped,
                added: t::Headers {
                    ends: h.added.ends,
                    names: column_out(h.added.names),
                    values: column_out(h.added.values),
                },
            }
        }

        fn origins_in(o: t::Origins) -> abi::Origins {
            abi::Origins {
                topics: o.topics,
                topic: o.topic,
                partition: o.partition,
                offset: o.offset,
            }
        }

        fn rejections_out(r: abi::Rejections) -> t::Rejections {
            let kind = |k| match k {
                abi::RejectionKind::Malformed => t::RejectionKind::Malformed,
                abi::RejectionKind::Invalid => t::RejectionKind::Invalid,
                abi::RejectionKind::Late => t::RejectionKind::Late,
                abi::RejectionKind::Expired => t::RejectionKind::Expired,
            };
            t::Rejections {
                rows: r.rows,
                kinds: r.kinds.into_iter().map(kind).collect(),
                reasons: column_out(r.reasons),
            }
        }

        fn treatment(t: abi::Treatment) -> l::Treatment {
            match t {
                abi::Treatment::Kept => l::Treatment::Kept,
                abi::Treatment::Assigned => l::Treatment::Assigned,
            }
        }

        /// Ports that go out.
        pub fn ports(p: abi::Ports) -> l::Ports {
            let input = |i: abi::InputPort| l::InputPort { name: i.name, summary: i.summary };
            let output = |o: abi::OutputPort| l::OutputPort {
                name: o.name,
                summary: o.summary,
                key: treatment(o.key),
                event_time: treatment(o.event_time),
            };
            l::Ports {
                inputs: p.inputs.into_iter().map(input).collect(),
                outputs: p.outputs.into_iter().map(output).collect(),
            }
        }

        /// A description that goes out.
        pub fn description(d: abi::Description) -> l::Description {
            l::Description {
                name: d.name,
                version: d.version,
                summary: d.summary,
                ports: ports(d.ports),
                config_schema: d.config_schema,
                state_version: d.state_version,
                reads_state_versions: d.reads_state_versions,
                maps: d.maps,
                wants_headers: d.wants_headers,
                wants_origins: d.wants_origins,
            }
        }

        /// What `configure` gets.
        pub fn setup(
            context: l::Context,
            resources: Vec<l::ResourceFile>,
        ) -> (abi::Context, Vec<abi::Resource>) {
            let resource = |r: l::ResourceFile| abi::Resource {
                name: r.name,
                file_name: r.file_name,
                data: r.data,
            };
            (
                abi::Context { pipeline: context.pipeline, stage: context.stage },
                resources.into_iter().map(resource).collect(),
            )
        }

        /// An error that goes out.
        pub fn config_error(e: abi::ConfigError) -> l::ConfigError {
            l::ConfigError { path: e.path, message: e.message }
        }

        /// Writes a line to the host's log; `level` counts from 0 for trace to 4 for error.
        pub fn log(level: u8, message: &str) {
            let level = match level {
                0 => logging::Level::Trace,
                1 => logging::Level::Debug,
                2 => logging::Level::Info,
                3 => logging::Level::Warn,
                _ => logging::Level::Error,
            };
            logging::log(level, message);
        }
    };
}
