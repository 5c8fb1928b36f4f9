-- RSASSA-PKCS1-v1_5 with SHA-256 by the libcrypto that nginx has loaded already.
local ffi = require "ffi"
ffi.cdef[[
typedef struct evp_pkey_st EVP_PKEY;
typedef struct evp_md_ctx_st EVP_MD_CTX;
typedef struct evp_md_st EVP_MD;
typedef struct bio_st BIO;
BIO *BIO_new_mem_buf(const void *buf, int len);
EVP_PKEY *PEM_read_bio_PrivateKey(BIO *bp, EVP_PKEY **x, void *cb, void *u);
EVP_PKEY *PEM_read_bio_PUBKEY(BIO *bp, EVP_PKEY **x, void *cb, void *u);
EVP_MD_CTX *EVP_MD_CTX_new(void);
void EVP_MD_CTX_free(EVP_MD_CTX *ctx);
const EVP_MD *EVP_sha256(void);
int EVP_DigestSignInit(EVP_MD_CTX *ctx, void **pctx, const EVP_MD *type, void *e,
                       EVP_PKEY *pkey);
int EVP_DigestSign(EVP_MD_CTX *ctx, unsigned char *sig, size_t *siglen,
                   const unsigned char *tbs, size_t tbslen);
int EVP_DigestVerifyInit(EVP_MD_CTX *ctx, void **pctx, const EVP_MD *type, void *e,
                         EVP_PKEY *pkey);
int EVP_DigestVerify(EVP_MD_CTX *ctx, const unsigned char *sig, size_t siglen,
                     const unsigned char *tbs, size_t tbslen);
]]
local C = ffi.C
local sha256 = C.EVP_sha256()

local function bio_of(name)
    local file = assert(io.open(name, "rb"))
    local pem = file:read("*a")
    file:close()
    return C.BIO_new_mem_buf(pem, #pem), pem
end

local rsa = {}

function rsa.private_key(name)
    return C.PEM_read_bio_PrivateKey((bio_of(name)), nil, nil, nil)
end

function rsa.public_key(name)
    return C.PEM_read_bio_PUBKEY((bio_of(name)), nil, nil, nil)
end

local size = ffi.new("size_t[1]")
local signature = ffi.new("unsigned char[512]")

function rsa.sign(key, data)
    local context = C.EVP_MD_CTX_new()
    size[0] = 512
    local done = C.EVP_DigestSignInit(context, nil, sha256, nil, key) == 1
        and C.EVP_DigestSign(context, signature, size, data, #data) == 1
    C.EVP_MD_CTX_free(context)
    return done and ffi.string(signature, size[0]) or error("not signed")
end

function rsa.verify(key, theirs, data)
    local context = C.EVP_MD_CTX_new()
    local holds = C.EVP_DigestVerifyInit(context, nil, sha256, nil, key) == 1
        and C.EVP_DigestVerify(context, theirs, #theirs, data, #data) == 1
    C.EVP_MD_CTX_free(context)
    return holds
end

return rsa
