//! A plugin as a native operator of the engine: for tests, and as the reference that the speed of
//! its component is measured against.

use std::panic::{AssertUnwindSafe, catch_unwind};

use wasmill_abi::{
    Column, ConfigError, Description, Failure, KeyedBatch, KeyedReply, Ports, StatelessBatch,
    StatelessReply,
};
use wasmill_core::operator::{self, CallError, FailureKind, MapAccess};

use crate::config::{self, Setup};
use crate::{keyed, stateless};

fn failed(failure: Failure) -> CallError {
    CallError::new(FailureKind::Failed, failure.message)
}

/// Runs a call; a panic is a trap, as in a component.
fn guard<T>(call: impl FnOnce() -> Result<T, Failure>) -> Result<T, CallError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(failed),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(CallError::new(FailureKind::Trap, text.unwrap_or("the plugin panicked")))
        }
    }
}

/// A stateless plugin.
pub struct Stateless<T>(T);

impl<T: stateless::Stateless> Stateless<T> {
    /// Makes it from its configuration, and returns the ports in effect.
    ///
    /// # Errors
    /// The plugin's [`ConfigError`].
    pub fn new(json: &str, setup: &Setup) -> Result<(Self, Ports), ConfigError> {
        let operator = T::new(config::parse(json)?, setup)?;
        let ports = config::complete(operator.ports().unwrap_or_else(|| T::describe().ports));
        Ok((Self(operator), ports))
    }
}

impl<T: stateless::Stateless + Send> operator::Common for Stateless<T> {
    fn reset(&mut self) -> Result<(), String> {
        Ok(())
    }
    fn digest(&self) -> &str {
        "native"
    }
    fn plugin(&self) -> &str {
        std::any::type_name::<T>()
    }
    fn wants_headers(&self) -> bool {
        T::describe().wants_headers
    }
    fn wants_origins(&self) -> bool {
        T::describe().wants_origins
    }
}

impl<T: stateless::Stateless + Send> operator::Stateless for Stateless<T> {
    fn process(&mut self, batch: &StatelessBatch) -> Result<StatelessReply, CallError> {
        guard(|| stateless::run(&self.0, batch))
    }
}

/// A keyed plugin.
pub struct Keyed<T> {
    operator: T,
    about: Description,
}

impl<T: keyed::Keyed> Keyed<T> {
    /// Makes it from its configuration, and returns the ports in effect.
    ///
    /// # Errors
    /// The plugin's [`ConfigError`].
    pub fn new(json: &str, setup: &Setup) -> Result<(Self, Ports), ConfigError> {
        let operator = T::new(config::parse(json)?, setup)?;
        let about = T::describe();
        let ports = config::complete(operator.ports().unwrap_or_else(|| about.ports.clone()));
        Ok((Self { operator, about }, ports))
    }
}

impl<T: keyed::Keyed + Send> operator::Common for Keyed<T> {
    fn reset(&mut self) -> Result<(), String> {
        Ok(())
    }
    fn digest(&self) -> &str {
        "native"
    }
    fn plugin(&self) -> &str {
        std::any::type_name::<T>()
    }
    fn wants_headers(&self) -> bool {
        self.about.wants_headers
    }
    fn wants_origins(&self) -> bool {
        self.about.wants_origins
    }
}

impl<T: keyed::Keyed + Send> operator::Keyed for Keyed<T> {
    fn process(
        &mut self,
        batch: &KeyedBatch,
        mut maps: Box<dyn MapAccess>,
    ) -> (Result<KeyedReply, CallError>, Box<dyn MapAccess>) {
        let result = guard(|| keyed::run(&self.operator, batch, maps.as_mut()));
        (result, maps)
    }

    fn migrate(&mut self, old_version: u32, states: &Column) -> Result<Column, CallError> {
        guard(|| keyed::migrate::<T>(old_version, states))
    }

    fn state_version(&self) -> u32 {
        T::STATE_VERSION
    }

    fn reads_state_versions(&self) -> &[u32] {
        &self.about.reads_state_versions
    }

    fn maps(&self) -> u16 {
        self.about.maps.len() as u16
    }
}
