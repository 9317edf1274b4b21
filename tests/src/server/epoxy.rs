//! ePoxy's routes for one host: the stage scripts and documents, with a session each, and reports.

use super::http::Response;
use super::log::Request;

/// A host as the boot server knows it: which chain document follows which stage.
#[derive(Clone, Debug, Default)]
pub struct EpoxyHost {
    /// The name in the routes, as in `/v1/boot/{name}/stage1.ipxe`.
    pub name: String,
    /// URL that iPXE chains to after stage1.
    pub stage1_ipxe: String,
    /// URL of the document that follows `stage1.json`.
    pub stage1: String,
    /// URL of the document that follows `stage2`.
    pub stage2: String,
    /// URL of the document that follows `stage3`.
    pub stage3: String,
    /// Given to iPXE as `images_version` and to Linux as `epoxy.images_version`.
    pub images_version: String,
}

/// A report that came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Session in the report's URL.
    pub session: String,
    /// `success` or `error: …`.
    pub message: String,
    /// The document after evaluation.
    pub debug_config: String,
    /// The log of the boot before, if one is told.
    pub previous_boot: Option<String>,
    /// A dead kernel's last words, if some are told.
    pub pstore: Option<String>,
    /// The fingerprint of the machine's ssh host key, if it is told.
    pub ssh_host_key: Option<String>,
    /// The machine's line for `known_hosts`, if it is told.
    pub ssh_known_hosts: Option<String>,
}

/// What the routes remember between requests.
#[derive(Default)]
pub(super) struct Epoxy {
    hosts: Vec<EpoxyHost>,
    sessions: Vec<String>,
    reports: Vec<Report>,
}

impl Epoxy {
    pub(super) fn add_host(&mut self, host: EpoxyHost) {
        self.hosts.push(host);
    }

    pub(super) fn reports(&self) -> Vec<Report> {
        self.reports.clone()
    }

    /// Answers what is below `/v1/boot/`; `None` when the path is not one of ePoxy's.
    pub(super) fn answer(&mut self, base_url: &str, request: &Request) -> Option<Response> {
        let route: Vec<&str> = request.path.strip_prefix("/v1/boot/")?.split('/').collect();
        let Some(host) = self.hosts.iter().find(|host| route.first() == Some(&host.name.as_str()))
        else {
            return Some(Response::new(404, "host not found\n"));
        };
        // An iPXE that is built without `params` can only GET.
        let may_get = route[1..] == ["stage1.ipxe"];
        if request.method != "POST" && !may_get {
            return Some(Response::new(405, "only POST\n").with_header("Allow", "POST"));
        }
        let host = host.clone();
        match route[1..] {
            ["stage1.ipxe"] => Some(ipxe(&stage1_ipxe(base_url, &host, &self.new_session()))),
            ["stage1.json"] => Some(json(&stage1_json(base_url, &host, &self.new_session()))),
            [_, "stage2"] => Some(json(&chain(&host.stage2))),
            [_, "stage3"] => Some(json(&chain(&host.stage3))),
            [session, "report"] => Some(self.report(session, request)),
            _ => None,
        }
    }

    /// Reports of an older session are refused, as ePoxy does.
    fn report(&mut self, session: &str, request: &Request) -> Response {
        if self.sessions.last().is_none_or(|newest| newest != session) {
            return Response::new(403, "session is not the newest\n");
        }
        self.reports.push(Report {
            session: session.to_owned(),
            message: request.field("message").unwrap_or_default().to_owned(),
            debug_config: request.field("debug.config").unwrap_or_default().to_owned(),
            previous_boot: request.field("debug.previous_boot").map(str::to_owned),
            pstore: request.field("debug.pstore").map(str::to_owned),
            ssh_host_key: request.field("debug.ssh_host_key").map(str::to_owned),
            ssh_known_hosts: request.field("debug.ssh_known_hosts").map(str::to_owned),
        });
        Response::new(204, "")
    }

    pub(super) fn new_session(&mut self) -> String {
        let session = format!("session{:04}", self.sessions.len() + 1);
        self.sessions.push(session.clone());
        session
    }
}

fn ipxe(script: &str) -> Response {
    Response::new(200, script).with_header("Content-Type", "text/plain; charset=utf-8")
}

fn json(document: &serde_json::Value) -> Response {
    Response::new(200, format!("{document:#}\n"))
        .with_header("Content-Type", "application/json; charset=utf-8")
}

fn stage1_ipxe(base_url: &str, host: &EpoxyHost, session: &str) -> String {
    let EpoxyHost { name, stage1_ipxe, images_version, .. } = host;
    format!(
        "#!ipxe\n\
         set stage1chain_url {stage1_ipxe}\n\
         set stage2_url {base_url}/v1/boot/{name}/{session}/stage2\n\
         set stage3_url {base_url}/v1/boot/{name}/{session}/stage3\n\
         set report_url {base_url}/v1/boot/{name}/{session}/report\n\
         set images_version {images_version}\n\
         chain ${{stage1chain_url}}\n"
    )
}

fn stage1_json(base_url: &str, host: &EpoxyHost, session: &str) -> serde_json::Value {
    let route = |step: &str| format!("{base_url}/v1/boot/{}/{session}/{step}", host.name);
    serde_json::json!({
        "kargs": {
            "epoxy.images_version": host.images_version,
            "epoxy.stage2": route("stage2"),
            "epoxy.stage3": route("stage3"),
            "epoxy.report": route("report"),
        },
        "v1": { "chain": host.stage1 },
    })
}

fn chain(url: &str) -> serde_json::Value {
    serde_json::json!({ "v1": { "chain": url } })
}
