-- Sessions of a mail server with mxgate serve, by versions 2 to 6: miltertest -D socket=inet:PORT@127.0.0.1 -s negotiation.lua

local function check(what, error_text)
   if error_text ~= nil then error(what .. ": " .. error_text) end
end

for version = 2, 6 do
   local conn = mt.connect(socket)
   if conn == nil then error("the daemon does not listen at " .. socket) end
   check("negotiation of version " .. version, mt.negotiate(conn, version, nil, nil))
   for name, option in pairs({ header = SMFIP_NOHDRS, EOH = SMFIP_NOEOH, body = SMFIP_NOBODY }) do
      if not mt.test_option(conn, option) then error("version " .. version .. ": the daemon wants to be told of " .. name) end
   end
   if mt.test_option(conn, SMFIP_NORCPT) then error("version " .. version .. ": the daemon does not want to be told of RCPT") end
   check("CONNECT", mt.conninfo(conn, "client.example", "192.0.2.7"))
   if not mt.test_option(conn, SMFIP_NOHELO) then error("version " .. version .. ": the daemon wants to be told of HELO") end
   check("macro", mt.macro(conn, SMFIC_MAIL, "{mail_addr}", "sender@example.com"))
   if not mt.test_option(conn, SMFIP_NOMAIL) then error("version " .. version .. ": the daemon wants to be told of MAIL") end
   check("RCPT", mt.rcptto(conn, "<user@example.org>"))
   if mt.getreply(conn) ~= SMFIR_REPLYCODE then error("version " .. version .. ": a listed client is not refused") end
   check("RCPT", mt.rcptto(conn, "<postmaster@example.org>"))
   if mt.getreply(conn) ~= SMFIR_CONTINUE then error("version " .. version .. ": postmaster cannot be reached") end
   check("abort", mt.abort(conn))
   mt.disconnect(conn)
end
mt.echo("as expected")
