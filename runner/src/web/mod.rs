//! Pages, actions, health and metrics over HTTP. Reads and forwards; decides nothing.
