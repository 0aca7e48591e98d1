//! The site that is visited and the agents that visit it. Invariant: paths are in their normal form,
//! so that cleaning leaves them alone.

/// Sections of the site, for pages in turn.
const SECTIONS: [&str; 8] =
    ["products", "articles", "docs", "guides", "news", "reviews", "events", "people"];

/// Where visitors come from who don't come from the site.
pub const REFERRERS: [&[u8]; 4] = [
    b"https://www.google.com/",
    b"https://www.bing.com/",
    b"https://duckduckgo.com/",
    b"https://news.example.org/today",
];

/// Browsers.
const BROWSERS: [&str; 12] = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4 Safari/605.1.15",
    "Mozilla/5.0 (X11; Linux x86_64; rv:125.0) Gecko/20100101 Firefox/125.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:125.0) Gecko/20100101 Firefox/125.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 Safari/537.36 Edg/124.0.0.0",
    "Mozilla/5.0 (iPad; CPU OS 16_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/16.6 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Linux; Android 13; SM-S901B) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/123.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 14.4; rv:124.0) Gecko/20100101 Firefox/124.0",
    "Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/122.0.0.0 Safari/537.36",
    "Opera/9.80 (Windows NT 6.1; WOW64) Presto/2.12.388 Version/12.18",
];

/// Bots; each says so within its first [`MIN_AGENT_BYTES`].
const BOTS: [&str; 6] = [
    "Googlebot/2.1 (+http://www.google.com/bot.html)",
    "bingbot/2.0 (+http://www.bing.com/bingbot.htm)",
    "YandexBot/3.0 (+http://yandex.com/bots)",
    "AhrefsBot/7.0 (+http://ahrefs.com/robot/)",
    "DuckDuckBot/1.1 (+http://duckduckgo.com/duckduckbot.html)",
    "Applebot/0.1 (+http://www.apple.com/go/applebot)",
];

/// The shortest agent.
pub const MIN_AGENT_BYTES: usize = 13;

/// Pages and agents, ready to be written.
#[derive(Debug, Clone)]
pub struct Site {
    ends: Vec<u32>,
    paths: Vec<u8>,
    browsers: Vec<Vec<u8>>,
    bots: Vec<Vec<u8>>,
}

impl Site {
    /// A site of so many pages, visited by agents of so many bytes.
    pub fn new(pages: u32, agent_bytes: usize) -> Self {
        let (mut ends, mut paths) = (Vec::new(), Vec::new());
        for page in 0..pages {
            if page == 0 {
                paths.push(b'/');
            } else {
                let section = SECTIONS[page as usize % SECTIONS.len()];
                paths.extend_from_slice(format!("/{section}/{page}").as_bytes());
            }
            ends.push(paths.len() as u32);
        }
        let agents = |list: &[&str]| list.iter().map(|agent| sized(agent, agent_bytes)).collect();
        Self { ends, paths, browsers: agents(&BROWSERS), bots: agents(&BOTS) }
    }

    /// The path of a page.
    #[inline]
    pub fn path(&self, page: u32) -> &[u8] {
        let start = if page == 0 { 0 } else { self.ends[page as usize - 1] as usize };
        &self.paths[start..self.ends[page as usize] as usize]
    }

    /// The agent that a user with these bits keeps.
    #[inline]
    pub fn agent(&self, bits: u64, bot: bool) -> &[u8] {
        let agents = if bot { &self.bots } else { &self.browsers };
        &agents[(bits >> 40) as usize % agents.len()]
    }
}

/// Cuts an agent, or pads it with the extensions that browsers were once full of.
fn sized(agent: &str, bytes: usize) -> Vec<u8> {
    let mut sized = agent.as_bytes().to_vec();
    let mut build = 0;
    while sized.len() < bytes {
        build += 1;
        sized.extend_from_slice(format!(" Extension/{build}.0").as_bytes());
    }
    sized.truncate(bytes);
    if let Some(last @ b' ') = sized.last_mut() {
        *last = b';';
    }
    sized
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bots_cut_short_are_still_bots() {
        let site = Site::new(1, MIN_AGENT_BYTES);
        for agent in &site.bots {
            let agent = str::from_utf8(agent).unwrap().to_ascii_lowercase();
            assert!(agent.len() == MIN_AGENT_BYTES && agent.contains("bot"), "{agent}");
        }
    }

    #[test]
    fn agents_have_the_length_that_is_asked_for() {
        for bytes in [13, 60, 500] {
            let site = Site::new(1, bytes);
            assert!(site.browsers.iter().chain(&site.bots).all(|agent| agent.len() == bytes));
        }
    }

    #[test]
    fn paths_are_apart() {
        let site = Site::new(1_000, 20);
        let paths: std::collections::HashSet<_> = (0..1_000).map(|page| site.path(page)).collect();
        assert_eq!(paths.len(), 1_000);
        assert_eq!(site.path(0), b"/");
        assert_eq!(site.path(9), b"/articles/9");
    }
}
