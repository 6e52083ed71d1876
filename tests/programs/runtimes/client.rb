# client.rb URL...: asks each URL, and says `URL STATUS` or why not.
require "net/http"

TOKEN = "Bearer dop_v1_00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
failed = false
ARGV.each do |url|
  status = Net::HTTP.get_response(URI(url), { "Authorization" => TOKEN }).code
  puts "#{url} #{status}"
  failed ||= status != "200"
rescue StandardError => problem
  warn "#{url}: #{problem.inspect}"
  failed = true
end
exit !failed
