//! Which topics a command means: those of the embedded log in a data directory, or of Kafka.
//!
//! Invariant: nothing is connected to or created here, and no text made here shows a secret.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use wasmill::engine;
use wasmill_kafka::Settings;
use wasmill_pipeline::Pipeline;

use super::kafka::Cluster;
use crate::command::{data_dir, pipeline};

/// The title of these arguments in the help.
const HEADING: &str = "Where the topics are";

/// The ids of the arguments.
pub const IDS: [&str; 5] = ["data_dir", "brokers", "properties", "file", "sets"];

/// The arguments that say where topics are.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Place {
    /// The embedded log in this data directory [env: WASMILL_DATA_DIR] [default: the only folder in
    /// .wasmill]
    #[arg(long, value_name = "DIR", help_heading = HEADING, conflicts_with_all = ["brokers", "file"])]
    data_dir: Option<PathBuf>,
    /// Kafka, by the addresses of one or more of its brokers
    #[arg(long, value_name = "HOST:PORT[,..]", help_heading = HEADING, conflicts_with = "file")]
    brokers: Option<String>,
    /// Sets a setting of librdkafka for --brokers, for example security.protocol=SASL_SSL; may be
    /// repeated. In a value, ${env:NAME} stands for an environment variable, so that a password need
    /// not be written here
    #[arg(
        long = "property", value_name = "KEY=VALUE", help_heading = HEADING,
        value_parser = property, requires = "brokers", conflicts_with = "file",
    )]
    properties: Vec<Property>,
    /// Where this pipeline has its topics: the Kafka of its [kafka], with all settings that stand
    /// there; without [kafka], the embedded log in WASMILL_DATA_DIR or else .wasmill/NAME, NAME being
    /// the pipeline's
    #[arg(long = "pipeline", value_name = "FILE", help_heading = HEADING)]
    file: Option<PathBuf>,
    /// Sets a value of the pipeline file, for example kafka.brokers=127.0.0.1:9092; may be repeated
    #[arg(
        long = "set", value_name = "PATH=VALUE", help_heading = HEADING,
        value_parser = pipeline::assignment, requires = "file",
    )]
    sets: Vec<(String, String)>,
}

/// Where topics are.
#[derive(Debug)]
pub enum Where {
    /// In the embedded log of this data directory.
    Log(PathBuf),
    /// On Kafka.
    Kafka(Cluster),
}

impl Place {
    /// What the arguments mean.
    ///
    /// # Errors
    /// When none is given and there is not one data directory, or more than one; when a setting or
    /// the pipeline file has problems.
    pub fn resolve(self) -> anyhow::Result<Where> {
        if let Some(brokers) = self.brokers {
            let properties = self.properties.into_iter().map(|p| (p.key, p.value)).collect();
            let settings = Settings { brokers, properties, ..Settings::default() };
            settings.check().context("--brokers and --property")?;
            return Ok(Where::Kafka(Cluster {
                settings,
                group: "wasmill".to_owned(),
                replication: None,
            }));
        }
        let Some(file) = self.file else {
            return Ok(Where::Log(data_dir::data_dir(self.data_dir)?));
        };
        let pipeline = Pipeline::load(&file, &self.sets).map_err(pipeline::Problems)?;
        let Some(kafka) = &pipeline.kafka else {
            let own = Path::new(data_dir::ROOT).join(&pipeline.name);
            let variable = std::env::var_os(data_dir::VARIABLE).filter(|dir| !dir.is_empty());
            return Ok(Where::Log(variable.map_or(own, PathBuf::from)));
        };
        let settings = engine::kafka::settings(kafka);
        settings.check().with_context(|| format!("[kafka] of {}", file.display()))?;
        Ok(Where::Kafka(Cluster {
            settings,
            group: kafka.group.clone(),
            replication: kafka.replication.and_then(|replicas| replicas.try_into().ok()),
        }))
    }
}

/// A setting of librdkafka. `Debug` shows its name only.
#[derive(Clone, PartialEq, Eq)]
struct Property {
    key: String,
    value: String,
}

impl fmt::Debug for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=***", self.key)
    }
}

/// Takes `KEY=VALUE` apart.
fn property(text: &str) -> Result<Property, String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok(Property { key: key.trim().to_owned(), value: value.to_owned() })
        }
        _ => Err("write KEY=VALUE, for example security.protocol=SASL_SSL".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        place: Place,
    }

    fn parse(arguments: &[&str]) -> Result<Place, String> {
        let line = ["topic"].iter().chain(arguments);
        Cli::try_parse_from(line).map(|cli| cli.place).map_err(|e| e.to_string())
    }

    fn kafka(arguments: &[&str]) -> Cluster {
        match parse(arguments).unwrap().resolve().unwrap() {
            Where::Kafka(cluster) => cluster,
            Where::Log(dir) => panic!("{}", dir.display()),
        }
    }

    fn refused(arguments: &[&str]) -> String {
        format!("{:#}", parse(arguments).unwrap().resolve().unwrap_err())
    }

    #[test]
    fn a_place_is_named_in_one_way_only() {
        for both in [
            ["--data-dir", "d", "--brokers", "b:1"],
            ["--data-dir", "d", "--pipeline", "p"],
            ["--brokers", "b:1", "--pipeline", "p"],
            ["--pipeline", "p", "--property", "a=b"],
        ] {
            let error = parse(&both).unwrap_err();
            assert!(error.contains("cannot be used with"), "{error}");
        }
        assert!(parse(&["--property", "a=b"]).unwrap_err().contains("--brokers"));
        assert!(parse(&["--set", "a=b"]).unwrap_err().contains("--pipeline"));
        let error = parse(&["--brokers", "b:1", "--property", "client.id"]).unwrap_err();
        assert!(error.contains("security.protocol=SASL_SSL"), "{error}");
        assert!(parse(&["--brokers", "b:1", "--property", "=x"]).is_err());
    }

    #[test]
    fn properties_go_to_librdkafka_and_are_shown_by_name_only() {
        let place = ["--brokers", "b:1,c:2", "--property", "sasl.password=hunter2=x"];
        let more = ["--property", "client.id=me"];
        let arguments = [&place[..], &more].concat();
        let shown = format!("{:?}", parse(&arguments).unwrap());
        assert!(!shown.contains("hunter2") && shown.contains("sasl.password"), "{shown}");
        let cluster = kafka(&arguments);
        assert_eq!(cluster.settings.brokers, "b:1,c:2");
        assert_eq!(cluster.settings.properties["sasl.password"], "hunter2=x");
        assert_eq!(cluster.settings.properties["client.id"], "me");
    }

    #[test]
    fn a_wrong_property_is_named_with_what_to_do() {
        let of = |property| refused(&["--brokers", "b:1", "--property", property]);
        let said = of("sesion.timeout.ms=1");
        assert!(said.contains("--property") && said.contains("`session.timeout.ms`"), "{said}");
        let said = of("session.timeout.ms=soon");
        assert!(said.contains("`session.timeout.ms`") && said.contains("soon"), "{said}");
        assert!(of("isolation.level=x").contains("can't be set"));
        assert!(of("sasl.password=${env:WASMILL_NO_SUCH}").contains("WASMILL_NO_SUCH"));
        assert!(refused(&["--brokers", ""]).contains("host:port"));
    }

    #[test]
    fn a_pipeline_file_says_where_its_topics_are() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.toml");
        std::fs::write(
            &path,
            "name = \"visits\"\n[source.raw]\npath = \"a\"\n[topic.t]\nfrom = \"source.raw\"\n",
        )
        .unwrap();
        let file = path.to_str().unwrap();
        match parse(&["--pipeline", file]).unwrap().resolve().unwrap() {
            Where::Log(dir) if std::env::var_os(data_dir::VARIABLE).is_none() => {
                assert_eq!(dir, Path::new(".wasmill/visits"));
            }
            Where::Log(_) => {}
            Where::Kafka(cluster) => panic!("{cluster:?}"),
        }
        let sets = ["--set", "kafka.brokers=b:1", "--set", "kafka.replication=3"];
        let more = ["--set", "kafka.group=g", "--set", "kafka.properties.client.id=me"];
        let cluster = kafka(&[&["--pipeline", file], &sets[..], &more[..]].concat());
        assert_eq!(cluster.settings.brokers, "b:1");
        assert_eq!(cluster.settings.properties["client.id"], "me");
        assert_eq!((cluster.group.as_str(), cluster.replication), ("g", Some(3)));
        let wrong = ["--pipeline", file, "--set", "kafka.brokerz=b:1"];
        assert!(refused(&wrong).contains("brokerz"));
    }
}
