//! To come.

/// Prints the figures.
pub fn run(_: &crate::Bench) -> anyhow::Result<()> {
    Ok(())
}
