//! The Lambda function.

use proxymanager::config::Environment;
use proxymanager::wiring;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let function = wiring::function(&Environment);
    wiring::serve(&function).await
}
