//! x
fn main() -> std::process::ExitCode {
    flasher::operation::run()
}
