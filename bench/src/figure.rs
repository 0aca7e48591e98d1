//! How a figure is printed, and how it is drawn from several runs.

/// Which side of the goal is good.
#[derive(Debug, Clone, Copy)]
pub enum Goal {
    /// At most so much.
    Most(f64),
    /// At least so much.
    Least(f64),
    /// Only for the record.
    None,
}

/// Prints `name value unit goal pass|short`.
pub fn print(name: &str, value: f64, unit: &str, goal: Goal) {
    let (goal, verdict) = match goal {
        Goal::Most(most) => (format!("<={most}"), if value <= most { "pass" } else { "short" }),
        Goal::Least(least) => (format!(">={least}"), if value >= least { "pass" } else { "short" }),
        Goal::None => ("-".to_owned(), "pass"),
    };
    let digits = if value.abs() < 10.0 { 2 } else { usize::from(value.abs() < 100.0) };
    println!("{name} {value:.digits$} {unit} {goal} {verdict}");
}

/// The median of some figures.
///
/// # Panics
/// When there is none.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
