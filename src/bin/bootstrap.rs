//! The Lambda function.

use proxymanager::config::Environment;
use proxymanager::wiring::lambda;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::run(&Environment).await
}
