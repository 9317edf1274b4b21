//! A shell on a machine's serial console.

use anyhow::Context as _;

use crate::vm::Vm;

/// Types a command and returns what comes until it has ended, with its exit status.
pub fn answer(vm: &mut Vm, command: &str) -> anyhow::Result<(String, i32)> {
    // What is typed is echoed, so the marks are written another way there.
    vm.type_line(&format!("echo be''gin; {command}; echo en''d $?"))?;
    vm.expect("begin\n")?;
    let from = vm.console.lines().len();
    vm.expect("end ")?;
    let end = vm.expect("\n")?.line;
    let lines = vm.console.lines();
    let begin = lines.get(..from).unwrap_or_default().iter().rposition(|line| line == "begin");
    let upto = lines.iter().rposition(|line| *line == end);
    let (begin, upto) = begin.zip(upto).context("expected the marks on the console")?;
    let status = end.replace("end ", "").trim().parse()?;
    Ok((lines.get(begin + 1..upto).unwrap_or_default().join("\n"), status))
}
