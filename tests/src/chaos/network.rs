//! Hosts as network namespaces, joined by a router in one more, in which the ways between them become bad.
//!
//! Nothing outside these namespaces is touched.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::plan::{Host, Trouble, WORKERS};

/// How a way becomes slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slow {
    /// netem: 150 ms, give or take 100.
    Netem,
    /// A narrow line with a long queue (tbf), where the kernel has no netem.
    Narrow,
}

/// The hosts of a farm.
#[derive(Debug)]
pub struct Network {
    prefix: String,
    hosts: BTreeMap<Host, usize>,
    /// How ways become slow, where the kernel can do it at all.
    pub slow: Option<Slow>,
}

impl Network {
    /// Makes all hosts and the router.
    ///
    /// # Errors
    /// If this machine does not allow it, with the reason.
    pub fn create() -> Result<Self> {
        let workers = (0..WORKERS).map(Host::Worker);
        let hosts =
            [Host::Coordinator, Host::Standby, Host::Database, Host::Client].into_iter().chain(workers);
        let hosts = hosts.enumerate().map(|(number, host)| (host, number)).collect();
        let prefix = format!("sfchaos{}", std::process::id());
        let mut network = Self { prefix, hosts, slow: None };
        let router = network.router();
        ip(&["netns", "add", &router])?;
        ip(&["-n", &router, "link", "set", "lo", "up"])?;
        network.inside(&router, &["sysctl", "-qw", "net.ipv4.ip_forward=1"])?;
        network.hosts.values().try_for_each(|&number| network.join(number))?;
        let never =
            ["FORWARD", "-s", "192.0.2.1", "-m", "statistic", "--mode", "random", "--probability", "0.1"];
        network.iptables("-A", &[&never[..], &["-j", "DROP"]].concat())?;
        network.slow = [Slow::Netem, Slow::Narrow].into_iter().find(|&slow| {
            let made = network.slow_down("add", 0, slow).is_ok();
            made && network.slow_down("del", 0, slow).is_ok()
        });
        Ok(network)
    }

    /// The address of a host.
    pub fn address(&self, host: Host) -> String {
        format!("10.77.{}.2", self.hosts[&host])
    }

    /// The words that run a program on a host.
    pub fn on(&self, host: Host) -> Vec<String> {
        ["ip", "netns", "exec", &self.namespace(self.hosts[&host])].map(str::to_owned).to_vec()
    }

    /// Makes the way from one host to another bad.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn disturb(&self, from: Host, to: Host, trouble: Trouble) -> Result<()> {
        match (trouble, self.slow) {
            (Trouble::Delay, Some(slow)) => self.slow_down("replace", self.hosts[&to], slow),
            (Trouble::Delay, None) => bail!("the kernel has neither netem nor tbf"),
            _ => self.rule("-I", from, to, trouble),
        }
    }

    /// Makes it good again; one that is good already stays so.
    pub fn heal(&self, from: Host, to: Host, trouble: Trouble) {
        // What was undone before cannot be undone again.
        let _ = match (trouble, self.slow) {
            (Trouble::Delay, Some(slow)) => self.slow_down("del", self.hosts[&to], slow),
            (Trouble::Delay, None) => Ok(()),
            _ => self.rule("-D", from, to, trouble),
        };
    }

    /// Makes every way good.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn heal_all(&self) -> Result<()> {
        if let Some(slow) = self.slow {
            for &number in self.hosts.values() {
                // Most are not slow.
                let _ = self.slow_down("del", number, slow);
            }
        }
        self.iptables("-F", &["FORWARD"])
    }

    fn rule(&self, verb: &str, from: Host, to: Host, trouble: Trouble) -> Result<()> {
        let (from, to) = (self.address(from), self.address(to));
        let mut words = vec!["FORWARD", "-s", &from, "-d", &to];
        let share;
        if let Trouble::Loss(percent) = trouble {
            share = format!("{:.2}", percent as f64 / 100.0);
            words.extend(["-m", "statistic", "--mode", "random", "--probability", &share]);
        }
        words.extend(["-j", "DROP"]);
        self.iptables(verb, &words)
    }

    fn slow_down(&self, verb: &str, number: usize, slow: Slow) -> Result<()> {
        let device = format!("to{number}");
        let mut words = vec!["tc", "qdisc", verb, "dev", &device, "root"];
        if verb != "del" {
            words.extend(match slow {
                Slow::Netem => ["netem", "delay", "150ms", "100ms"].as_slice(),
                Slow::Narrow => ["tbf", "rate", "400kbit", "burst", "3kb", "latency", "600ms"].as_slice(),
            });
        }
        self.inside(&self.router(), &words)
    }

    fn iptables(&self, verb: &str, words: &[&str]) -> Result<()> {
        self.inside(&self.router(), &[&["iptables", "-w", verb], words].concat())
    }

    fn inside(&self, namespace: &str, words: &[&str]) -> Result<()> {
        ip(&[&["netns", "exec", namespace], words].concat())
    }

    fn join(&self, number: usize) -> Result<()> {
        let (host, router) = (self.namespace(number), self.router());
        let (way, near) = (format!("to{number}"), format!("10.77.{number}.1"));
        let (far_net, near_net) = (format!("10.77.{number}.2/24"), format!("{near}/24"));
        ip(&["netns", "add", &host])?;
        ip(&["-n", &host, "link", "add", "eth0", "type", "veth", "peer", "name", &way, "netns", &router])?;
        ip(&["-n", &host, "addr", "add", &far_net, "dev", "eth0"])?;
        ip(&["-n", &host, "link", "set", "lo", "up"])?;
        ip(&["-n", &host, "link", "set", "eth0", "up"])?;
        ip(&["-n", &router, "addr", "add", &near_net, "dev", &way])?;
        ip(&["-n", &router, "link", "set", &way, "up"])?;
        ip(&["-n", &host, "route", "add", "default", "via", &near])
    }

    fn router(&self) -> String {
        format!("{}r", self.prefix)
    }

    fn namespace(&self, number: usize) -> String {
        format!("{}h{number}", self.prefix)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let names = self.hosts.values().map(|&number| self.namespace(number)).chain([self.router()]);
        for name in names {
            // One that was never made cannot be removed.
            let _ = ip(&["netns", "del", &name]);
        }
    }
}

fn ip(words: &[&str]) -> Result<()> {
    let shown = words.join(" ");
    let output = Command::new("ip").args(words).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot run ip {shown}"))?;
    if !output.status.success() {
        bail!("ip {shown}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
