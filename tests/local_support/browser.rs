//! A real Chromium, steered over WebDriver (<https://www.w3.org/TR/webdriver2/>) by plain HTTP.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tokio::task::block_in_place;

/// One browser with one window and a profile of its own. Dropped, it leaves no process and no file behind.
pub struct Browser {
    driver: Child,
    profile: PathBuf,
    agent: ureq::Agent,
    session: String,
}

impl Browser {
    /// A fresh browser. `name` tells profiles of one test program apart.
    pub fn start(name: &str) -> Self {
        Browser::start_with(name, &[])
    }

    /// As [`Browser::start`], with more of Chromium's switches.
    pub fn start_with(name: &str, switches: &[String]) -> Self {
        let profile = std::env::temp_dir().join(format!("browser-{name}-{}", std::process::id()));
        fs::create_dir_all(&profile).expect("the profile's folder can be made");
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            // Nothing of it is to land in the user's own configuration.
            .env("HOME", &profile)
            .env("XDG_CONFIG_HOME", &profile)
            .env("XDG_CACHE_HOME", &profile)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver runs; `make tools` installs it");
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .build()
            .new_agent();
        let port = port(&mut driver);
        let mut browser = Self {
            driver,
            profile,
            agent,
            session: format!("http://127.0.0.1:{port}/session"),
        };
        let folder = format!("--user-data-dir={}", browser.profile.display());
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-sync",
            "--window-size=1200,900",
            "--lang=en",
            &folder,
        ];
        let arguments = arguments.map(str::to_owned);
        let arguments: Vec<_> = arguments.iter().chain(switches).collect();
        let options = json!({ "binary": chromium(), "args": arguments });
        let wanted = json!({ "alwaysMatch": { "browserName": "chrome", "goog:chromeOptions": options } });
        let session = browser.post("", &json!({ "capabilities": wanted }));
        let id = session["sessionId"].as_str().expect("a session has an id").to_owned();
        browser.session = format!("{}/{id}", browser.session);
        browser
    }

    /// Opens a URL and returns when what it leads to is loaded.
    pub fn open(&self, url: &str) {
        self.post("/url", &json!({ "url": url }));
    }

    pub fn reload(&self) {
        self.post("/refresh", &json!({}));
    }

    pub fn back(&self) {
        self.post("/back", &json!({}));
    }

    /// The tab in which things happen.
    pub fn tab(&self) -> Value {
        self.get("/window")
    }

    /// Opens a new tab; things go on happening in the old one.
    pub fn new_tab(&self) -> Value {
        self.post("/window/new", &json!({ "type": "tab" }))["handle"].clone()
    }

    /// Nobody sees it any more, and it knows.
    pub fn minimize(&self) {
        self.post("/window/minimize", &json!({}));
    }

    /// Goes to another tab.
    pub fn show(&self, tab: &Value) {
        self.post("/window", &json!({ "handle": tab }));
    }

    /// Shows pages as on a screen of this size, in CSS pixels.
    pub fn screen(&self, width: u32, height: u32) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.devtools("Emulation.setDeviceMetricsOverride", &metrics);
    }

    /// As somebody who prefers this colour scheme, `light` or `dark`.
    pub fn prefers(&self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.devtools("Emulation.setEmulatedMedia", &json!({ "features": features }));
    }

    /// As a browser without scripts.
    pub fn without_scripts(&self) {
        self.devtools("Emulation.setScriptExecutionDisabled", &json!({ "value": true }));
    }

    /// From the next page on, their scripts' time goes so many times faster.
    pub fn hurry(&self, times: u32) {
        let script = format!(
            "(() => {{ const times = {times}, later = setTimeout, often = setInterval, now = Date.now;
            window.setTimeout = (work, ms, ...rest) => later(work, ms / times, ...rest);
            window.setInterval = (work, ms, ...rest) => often(work, Math.max(20, ms / times), ...rest);
            Date.now = () => now() * times; }})()"
        );
        self.devtools("Page.addScriptToEvaluateOnNewDocument", &json!({ "source": script }));
    }

    fn devtools(&self, command: &str, parameters: &Value) {
        self.post("/goog/cdp/execute", &json!({ "cmd": command, "params": parameters }));
    }

    pub fn title(&self) -> String {
        self.get("/title").as_str().unwrap_or_default().to_owned()
    }

    /// The address bar.
    pub fn url(&self) -> String {
        self.get("/url").as_str().unwrap_or_default().to_owned()
    }

    /// What this script returns.
    pub fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// What this script hands to its last argument, a function.
    pub fn run_later(&self, script: &str) -> Value {
        self.post("/execute/async", &json!({ "script": script, "args": [] }))
    }

    /// The text that is to be seen of the first element that this selector finds; empty when there is none.
    pub fn text(&self, selector: &str) -> String {
        let text = self.run(&format!("return document.querySelector({selector:?})?.innerText"));
        text.as_str().unwrap_or_default().to_owned()
    }

    /// The text of the first heading.
    pub fn heading(&self) -> String {
        let heading = self.run("const h1 = document.querySelector('h1'); return h1 ? h1.innerText : ''");
        heading.as_str().unwrap_or_default().to_owned()
    }

    /// Writes what it shows to `target/screenshots`.
    pub fn screenshot(&self, name: &str) -> PathBuf {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("screenshots");
        fs::create_dir_all(&folder).expect("the folder can be made");
        let picture = self.get("/screenshot");
        let picture = STANDARD
            .decode(picture.as_str().unwrap_or_default())
            .expect("it is base64");
        let file = folder.join(name);
        fs::write(&file, picture).expect("the picture can be written");
        file
    }

    fn get(&self, path: &str) -> Value {
        block_in_place(|| value(self.agent.get(format!("{}{path}", self.session)).call()))
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        block_in_place(|| {
            value(
                self.agent
                    .post(format!("{}{path}", self.session))
                    .send(body.to_string()),
            )
        })
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Ends Chromium, which has a process group of its own.
        block_in_place(|| drop(self.agent.delete(&self.session).call()));
        let group = i32::try_from(self.driver.id()).map(nix::unistd::Pid::from_raw);
        let _ = group.map(|group| nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL));
        let _ = self.driver.wait();
        let _ = fs::remove_dir_all(&self.profile);
    }
}

/// The port of the kernel's choice, which it says on its first lines.
fn port(driver: &mut Child) -> u16 {
    let out = BufReader::new(driver.stdout.take().expect("stdout is piped"));
    let mut lines = out.lines().map_while(Result::ok);
    let port = lines.find_map(|line| {
        line.split_once("successfully on port ")
            .map(|(_, port)| port.to_owned())
    });
    let port = port.expect("chromedriver says on which port it is");
    port.trim_end_matches('.').parse().expect("the port is a number")
}

fn chromium() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found = std::env::split_paths(&path).map(|folder| folder.join("chromium"));
    found
        .find(|file| file.is_file())
        .expect("chromium is there; `make tools` installs it")
}

fn value(answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Value {
    let mut answer = answer.expect("chromedriver answers");
    let text = answer.body_mut().with_config().limit(50_000_000).read_to_string();
    let text = text.expect("an answer in UTF-8");
    let answer: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let value = answer["value"].clone();
    assert!(value.get("error").is_none(), "{value}");
    value
}
