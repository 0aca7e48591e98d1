//! Listeners that ask who is there, or that encrypt, and the brokers' certificate.
//!
//! Invariant: the certificate is made for one cluster, signs itself, and is of no use to anybody else.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{Error, error};

/// Who is known to the listeners with SASL.
pub const USER: &str = "alice";
/// By this password, which is found nowhere else.
pub const PASSWORD: &str = "correct-horse-battery-staple";

/// The name of the certificate's file in a cluster's folder.
const CERTIFICATE: &str = "certificate.pem";
const KEYSTORE: &str = "keystore.p12";
/// Of the file with the key, which goes with the cluster.
const KEYSTORE_PASSWORD: &str = "of-the-keystore";

/// What makes a broker know the user by SCRAM too: for the tool that formats a data folder.
pub(crate) fn scram() -> String {
    format!("SCRAM-SHA-256=[name={USER},password={PASSWORD}]")
}

/// What a listener demands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Security {
    /// A name and a password (SASL/PLAIN or SASL/SCRAM-SHA-256), unencrypted.
    SaslPlaintext,
    /// TLS; whoever comes is let in.
    Ssl,
    /// A name and a password, likewise, over TLS.
    SaslSsl,
}

impl Security {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::SaslPlaintext, Self::Ssl, Self::SaslSsl];

    /// The name of the protocol, as of `security.protocol`.
    pub fn protocol(self) -> &'static str {
        match self {
            Self::SaslPlaintext => "SASL_PLAINTEXT",
            Self::Ssl => "SSL",
            Self::SaslSsl => "SASL_SSL",
        }
    }

    /// The name of the listener.
    pub(crate) fn listener(self) -> &'static str {
        match self {
            Self::SaslPlaintext => "SASLPLAIN",
            Self::Ssl => "TLS",
            Self::SaslSsl => "SASLTLS",
        }
    }

    /// The settings of the listener.
    pub(crate) fn properties(self) -> Vec<(String, String)> {
        if self == Self::Ssl {
            return Vec::new();
        }
        let of = |key: &str, value: String| {
            let listener = self.listener().to_ascii_lowercase();
            (format!("listener.name.{listener}.{key}"), value)
        };
        let module = |name| format!("org.apache.kafka.common.security.{name}LoginModule required");
        let plain = format!("{} user_{USER}=\"{PASSWORD}\";", module("plain.Plain"));
        vec![
            of("sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-256".into()),
            of("plain.sasl.jaas.config", plain),
            of("scram-sha-256.sasl.jaas.config", format!("{};", module("scram.Scram"))),
        ]
    }
}

/// The settings of all listeners with TLS of a cluster whose certificate is in this folder.
pub(crate) fn properties(folder: &Path) -> Vec<(String, String)> {
    let keystore = folder.join(KEYSTORE).display().to_string();
    let own = [
        ("ssl.keystore.type", "PKCS12"),
        ("ssl.keystore.location", &keystore),
        ("ssl.keystore.password", KEYSTORE_PASSWORD),
        ("ssl.key.password", KEYSTORE_PASSWORD),
    ];
    own.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

/// Where the certificate of a cluster is.
pub(crate) fn certificate(folder: &Path) -> PathBuf {
    folder.join(CERTIFICATE)
}

/// Makes a key and its certificate in a cluster's folder, by the `keytool` of a Java.
pub(crate) fn make_certificate(keytool: &Path, folder: &Path) -> Result<(), Error> {
    let keystore = folder.join(KEYSTORE);
    let of = ["-alias", "broker", "-storetype", "PKCS12", "-storepass", KEYSTORE_PASSWORD];
    let run = |args: &[&str]| {
        let mut command = Command::new(keytool);
        command.args(args).args(of).arg("-keystore").arg(&keystore);
        command
    };
    let mut key = run(&["-genkeypair", "-keyalg", "EC", "-groupname", "secp256r1"]);
    key.args(["-validity", "30", "-dname", "CN=Wasmill's tests"]);
    succeed(key.args(["-ext", "SAN=IP:127.0.0.1,DNS:localhost"]))?;
    succeed(run(&["-exportcert", "-rfc"]).arg("-file").arg(certificate(folder)))
}

fn succeed(command: &mut Command) -> Result<(), Error> {
    let name = command.get_program().to_string_lossy().into_owned();
    let failed = error::io(format!("making a certificate with {name}"));
    let output = command.stdin(Stdio::null()).output();
    let said = match output {
        Ok(output) if output.status.success() => return Ok(()),
        Ok(output) => [output.stdout, output.stderr].concat(),
        Err(error) => return Err(failed(error)),
    };
    Err(failed(std::io::Error::other(String::from_utf8_lossy(&said).into_owned())))
}
