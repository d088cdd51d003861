# A client of the API with Ruby's own Net::HTTP: BASE_URL and APPKEY in the environment.
require "json"
require "net/http"
require "securerandom"

BASE = ENV.fetch("BASE_URL")
KEY = ENV.fetch("APPKEY")

def call(request, uri)
  request["APPKEY"] ||= KEY
  answer = Net::HTTP.start(uri.host, uri.port, use_ssl: uri.scheme == "https") { |http| http.request(request) }
  JSON.parse(answer.body)
end

def get(name, params = {}, key = KEY)
  uri = URI("#{BASE}/#{name}")
  uri.query = URI.encode_www_form(params) unless params.empty?
  request = Net::HTTP::Get.new(uri)
  request["APPKEY"] = key
  call(request, uri)
end

def post(name, body)
  uri = URI("#{BASE}/#{name}")
  request = Net::HTTP::Post.new(uri, "Content-Type" => "application/json")
  request.body = JSON.generate(body)
  call(request, uri)
end

# The code decides, not the HTTP status.
def data(answer)
  raise "#{answer["meta"]["status"]}: #{answer["msg"]}" unless answer["meta"]["status"] == "SUCCESS"

  answer["data"]
end

sent = data(post("send-sms", { sms_text: "Hello from Ruby", numbers: ["+61400000000", "0400000001"], custom_string: "order-1" }))
puts "sent #{sent["success_number"]} of #{sent["total_numbers"]}"
puts "message #{data(get("get-sms", { message_id: sent["messages"][0]["message_id"] }))[0]["to"]}"

bulk = post("bulk-send-sms", [{ sms_text: "one", numbers: ["61400000000"] }, { sms_text: "", numbers: ["61400000000"] }])
puts "bulk #{bulk.map { |each| each["meta"]["status"] }.join(" ")}"

uri = URI("#{BASE}/send-mms")
request = Net::HTTP::Post.new(uri)
picture = File.open(ENV.fetch("PICTURE"), "rb")
request.set_form(
  [["numbers", JSON.generate(["+61400000002"])], ["mms_text", "A picture"], ["mms_file", picture, { content_type: "image/gif" }]],
  "multipart/form-data"
)
puts "mms #{data(call(request, uri))["success_number"]}"

page = 1
loop do
  replies = data(get("get-responses", { page: page, type: "sms" }))
  replies["responses"].each { |reply| puts "reply #{reply["from"]}" }
  break if page >= replies["page"]["count"].to_i

  page += 1
end
puts "read #{post("inbound-read", {})["meta"]["status"]}"

templates = data(get("get-template"))["responses"]
templates.each { |template| puts "template #{template["message_title"]}" }
people = [{ number: "61400000003", fname: "Ann" }]
sent = data(post("send-sms-template", { template_id: templates[0]["template_id"], numbers: people }))
puts "from template #{sent["success_number"]}"
data(get("get-optout"))["responses"].each { |opt_out| puts "optout #{opt_out["number"]}" }
puts "balance #{data(get("account"))["sms_balance"]}"
puts "wrong key #{get("account", {}, "wrong")["meta"]["status"]}"
