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

/// Prints `name value unit goal pass|short`; a figure without a goal has `-` for both.
pub fn print(name: &str, value: f64, unit: &str, goal: Goal) {
    println!("{}", line(name, value, unit, goal));
}

fn line(name: &str, value: f64, unit: &str, goal: Goal) -> String {
    let (goal, verdict) = match goal {
        Goal::Most(most) => (format!("<={most}"), if value <= most { "pass" } else { "short" }),
        Goal::Least(least) => (format!(">={least}"), if value >= least { "pass" } else { "short" }),
        Goal::None => ("-".to_owned(), "-"),
    };
    let digits = if value.abs() < 10.0 { 2 } else { usize::from(value.abs() < 100.0) };
    format!("{name} {value:.digits$} {unit} {goal} {verdict}")
}

/// The median of some figures.
///
/// # Panics
/// When there is none.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_passes_or_falls_short_of_its_goal_and_without_one_does_neither() {
        assert_eq!(line("a", 40.0, "ns", Goal::Most(40.0)), "a 40.0 ns <=40 pass");
        assert_eq!(line("a", 123.4, "ns", Goal::Most(40.0)), "a 123 ns <=40 short");
        assert_eq!(line("b", 0.5, "ratio", Goal::Least(0.6)), "b 0.50 ratio >=0.6 short");
        assert_eq!(line("c", 7.0, "s", Goal::None), "c 7.00 s - -");
    }
}
