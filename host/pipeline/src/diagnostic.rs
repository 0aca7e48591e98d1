//! A problem in a pipeline file, shown with the line that it is in.
//!
//! Invariant: a diagnostic says what was found and what was expected; `help` says what to do.

use std::fmt;
use std::path::PathBuf;

/// The longest part of a source line that is shown, in characters.
const EXCERPT_CHARS: usize = 120;

/// A place in a pipeline file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct At {
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
}

/// Whether a pipeline can run in spite of a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// It can't.
    Error,
    /// It can, but probably doesn't do what was meant.
    Warning,
}

/// The line that a problem is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    /// The line without its end, and without what may be a secret of Kafka.
    pub line: String,
    /// How many characters are underlined, at least 1.
    pub width: u32,
}

/// A problem in a pipeline file. Its `Display` is for a terminal and has several lines, without a
/// newline at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// The pipeline file, as its path was given.
    pub file: PathBuf,
    /// Where in the file; none for problems of the file as a whole or of a `--set`.
    pub at: Option<At>,
    /// The `--set` that the value came from, as `path=value`; a secret of Kafka is hidden.
    pub set: Option<String>,
    /// The dotted path of the item or key; empty for the whole.
    pub path: String,
    /// What was found and what was expected.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
    /// The line at `at`.
    pub excerpt: Option<Excerpt>,
}

impl Diagnostic {
    /// Whether this is an error.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.severity {
            Severity::Error => "error: ",
            Severity::Warning => "warning: ",
        })?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        let number = self.at.map_or(String::new(), |at| at.line.to_string());
        let gutter = " ".repeat(number.len().max(1));
        match (&self.set, self.at) {
            (Some(set), _) => write!(f, "\n{gutter}--> --set {set}")?,
            (None, Some(at)) => {
                write!(f, "\n{gutter}--> {}:{}:{}", self.file.display(), at.line, at.column)?;
            }
            (None, None) => write!(f, "\n{gutter}--> {}", self.file.display())?,
        }
        if let (Some(at), Some(excerpt)) = (self.at, &self.excerpt) {
            let (line, column) = window(&excerpt.line, at.column as usize - 1);
            let room = line.chars().count().saturating_sub(column).max(1);
            write!(f, "\n{gutter} |\n{number} | {line}\n{gutter} | ")?;
            let carets = (excerpt.width as usize).clamp(1, room);
            write!(f, "{}{}", " ".repeat(column), "^".repeat(carets))?;
        }
        match &self.help {
            Some(help) => write!(f, "\n{gutter} = help: {help}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Diagnostic {}

/// Brings problems into the order of the file; those of the whole and of `--set`s come last.
pub(crate) fn sort(problems: &mut [Diagnostic]) {
    problems.sort_by_key(|d| (d.at.is_none(), d.at));
}

/// The part of a line around a column (from 0), and the column within it.
fn window(line: &str, column: usize) -> (String, usize) {
    let chars: Vec<char> = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if chars.len() <= EXCERPT_CHARS {
        return (chars.iter().collect(), column);
    }
    let start = column.saturating_sub(EXCERPT_CHARS / 2).min(chars.len() - EXCERPT_CHARS);
    (chars[start..start + EXCERPT_CHARS].iter().collect(), column - start)
}

/// The known name that was probably meant.
pub(crate) fn nearest<'k>(
    found: &str,
    known: impl IntoIterator<Item = &'k str>,
) -> Option<&'k str> {
    let distance = |k: &&str| strsim::damerau_levenshtein(found, k);
    let best = known.into_iter().map(|k| (distance(&k), k)).min_by_key(|(d, _)| *d);
    let allowed = (found.chars().count() / 3).clamp(1, 4);
    best.filter(|(d, _)| *d <= allowed).map(|(_, k)| k)
}

/// `a, b and c`.
pub(crate) fn list<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> String {
    let names: Vec<String> = names.into_iter().map(|n| n.as_ref().to_owned()).collect();
    match names.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
        None => "none".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_is_shown_around_its_problem() {
        let line = format!("{}x{}", "a".repeat(500), "b".repeat(500));
        let diagnostic = Diagnostic {
            severity: Severity::Error,
            file: "p.toml".into(),
            at: Some(At { line: 7, column: 501 }),
            set: None,
            path: "engine".into(),
            message: "bad".into(),
            help: Some("good".into()),
            excerpt: Some(Excerpt { line, width: 1 }),
        };
        let text = diagnostic.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "error: engine: bad");
        assert_eq!(lines[1], " --> p.toml:7:501");
        assert_eq!(lines[3].chars().count(), EXCERPT_CHARS + 4);
        assert_eq!(lines[3].find('x'), lines[4].find('^'));
        assert_eq!(lines[5], "  = help: good");
    }

    #[test]
    fn only_a_near_name_is_suggested() {
        let known = ["plugin", "from", "key-by", "config"];
        assert_eq!(nearest("plugn", known), Some("plugin"));
        assert_eq!(nearest("key_by", known), Some("key-by"));
        assert_eq!(nearest("partitions", known), None);
        assert_eq!(list(known), "plugin, from, key-by and config");
    }
}
