-- A role that may read autoscale_signal and nothing else. Run it as the owner of VM Webapp's tables:
--   VM_AUTOSCALER_PASSWORD=… psql "$VM_DB_URL" -v ON_ERROR_STOP=1 -f role.sql
-- It may be run again: for another password, or after a release that has replaced the view.
\getenv password VM_AUTOSCALER_PASSWORD

SELECT NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'vm_webapp_autoscaler') AS missing \gset
\if :missing
CREATE ROLE vm_webapp_autoscaler LOGIN;
\endif
ALTER ROLE vm_webapp_autoscaler LOGIN PASSWORD :'password' CONNECTION LIMIT 3;
ALTER ROLE vm_webapp_autoscaler SET default_transaction_read_only = on;
ALTER ROLE vm_webapp_autoscaler SET statement_timeout = '5s';
-- A view reads its tables with the rights of its owner.
GRANT SELECT ON autoscale_signal TO vm_webapp_autoscaler;
